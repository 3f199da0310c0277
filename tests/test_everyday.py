"Everyday use: first words, progress, JSON, pictures, plans, doctor, cache, boards above, other systems, installation"
import ast, io, json, os, re, shlex, struct, subprocess, sys, threading, time
from pathlib import Path
from types import SimpleNamespace
import pytest
import woofbench
from conftest import root
from woofbench.commands.cli import EXIT, make_parser
from woofbench.commands.flags import Verb, _found, _on_board, _taken_over, flags_of, verbs
from woofbench.commands.skim import skim
from woofbench.board.home import home, is_board
from woofbench.progress import RowBar, bar, live, quiet, speaking

pty,fcntl,termios = (pytest.importorskip(o, reason='terminals of POSIX') for o in ('pty','fcntl','termios'))

SMALL = '--size 16 --arch xresnet10_tiny --bs 128 --epochs 1 --seeds 2'
small = dict(size=16, arch='xresnet10_tiny', bs=128, epochs=1, device='cpu')

def python(code, *args, **kw):
    return subprocess.run([sys.executable, '-c', code, *args], capture_output=True, text=True, **dict(cwd=root) | kw)

def files(folder): return {o.relative_to(folder).as_posix():o.stat().st_mtime_ns for o in Path(folder).rglob('*')}

@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "A board with two rows of two seeds"
    from woofbench import run
    out = tmp_path_factory.mktemp('trained')
    return out, *(run('digits', seeds=2, out=out, say=None, **small, **kw) for kw in ({}, dict(lr=.01)))


# First words

def words_of(kind):
    "A type by the names in it, wherever they are from"
    return re.sub(r"<class '([\w.]+)'>", r'\1', str(kind)).replace('woofbench.', '').split('.')[-1] if isinstance(
            kind, type) else re.sub(r'[\w.]+\.(\w+)', r'\1', str(kind))

@pytest.mark.parametrize('name', sorted({o for v in verbs.values() for o in v.more.values()}))
def test_flags_from_text_are_those_from_an_import(name):
    def found(target):
        return {o.name:(words_of(o.kind), o.default, o.text, o.place, o.field) for o in flags_of(target)
                if _taken_over(o)}
    text,real = found(skim(name)),found(_found(name, True))
    assert text==real and text and ('()' in name or list(text)==list(real))

def test_the_parser_imports_nothing_heavy():
    code = """import sys
from woofbench.commands.cli import make_parser
from woofbench.commands.flags import verbs
for words in ('run --act mish --aug-strength .5 --set lr=.01 depths=1,1,1,1', 'ablate --one-at-a-time act=mish',
              'reproduce 12', 'cost --arch xresnet18', 'submit 12 --dry-run', 'challenge 12', 'doctor', 'cache'):
    make_parser().parse_strict(words.split())
for o in verbs:
    try: make_parser().parse_strict([o, '--help'])
    except SystemExit: pass
try: make_parser().parse_strict(['run', '--akt', 'mish'])
except ValueError as e: print(e)
print([o for o in ('torch','fastai','pandas','scipy','matplotlib','timm','sklearn') if o in sys.modules])"""
    p = python(code)
    assert p.stdout.splitlines()[-2:]==["unknown flag '--akt'; did you mean --act or --data or --attn or --sa?",
                                        '[]'], p.stdout+p.stderr

def test_cost_takes_the_parameters_of_networks_alone():
    names = {o.name for o in flags_of(_found('train.recipe:model_parameters()', True))}
    assert {'block_rate','stem_eps','arch_width'} <= names and not {'opt_ks','aug_strength','average_start'} & names

@pytest.fixture
def no_torch(tmp_path):
    "Environment in which the import of PyTorch is the last thing that happens"
    (tmp_path/'fake').mkdir()
    (tmp_path/'fake'/'torch.py').write_text('import os, sys; sys.stdout.flush(); os.write(1, b"HEAVY"); os._exit(7)')
    (tmp_path/'part.py').write_text('import torch')
    return os.environ | dict(PYTHONPATH=f'{tmp_path/"fake"}{os.pathsep}{root}')

@pytest.mark.parametrize('words,out,err', (
    ('run', 'FIRST\nHEAVY', ''), ('run --json', 'HEAVY', 'FIRST\n'), ('run --import part.py', 'FIRST\nHEAVY', ''),
    ('ablate --one-at-a-time act=relu', 'FIRST\nHEAVY', ''), ('reproduce 12', 'FIRST\nHEAVY', ''),
    ('challenge 12', 'FIRST\nHEAVY', ''), ('compare 1 2', 'HEAVY', ''), ('cost', 'HEAVY', '')))
def test_first_words_come_before_the_heavy_import(words, out, err, no_torch, tmp_path):
    first = f'woofbench {woofbench.__version__}: importing PyTorch and fastai'
    p = subprocess.run([sys.executable, '-m', 'woofbench', *words.split()], capture_output=True, text=True,
                       env=no_torch, cwd=tmp_path)
    assert (p.stdout, p.stderr)==(out.replace('FIRST', first), err.replace('FIRST', first)) and p.returncode==7

@pytest.mark.skipif(os.name!='posix', reason='counts the seconds of a processor')
def test_first_words_take_less_than_a_second(no_torch, tmp_path):
    "Seconds of a processor, which other programs do not change"
    import resource
    def used():
        u = resource.getrusage(resource.RUSAGE_CHILDREN)
        return u.ru_utime+u.ru_stime
    took = []
    for _ in range(3):
        t = used()
        subprocess.run([sys.executable, '-m', 'woofbench', 'run', '--dataset', 'digits'], env=no_torch, cwd=tmp_path,
                       capture_output=True)
        took.append(used()-t)
    assert min(took)<1, took


# Progress

class Terminal:
    "Both streams are a terminal while the block is at work; `text` is what it was sent"
    def __enter__(self):
        self.was,(me,its) = (sys.stdout, sys.stderr),pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 110, 0, 0))
        sys.stdout,sys.stderr = open(its, 'w', buffering=1, closefd=False),open(its, 'w', buffering=1, closefd=False)
        self.parts,self.me,self.its = [],me,its
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        return self

    def read(self):
        while True:
            try: b = os.read(self.me, 65536)
            except OSError: return
            if not b: return
            self.parts.append(b)

    def __exit__(self, *args):
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout,sys.stderr = self.was
        os.close(self.its)
        self.reader.join()
        os.close(self.me)
        self.text = b''.join(self.parts).decode()

def same(a, b):
    "Two runs of a seed, to the last count"
    return [(r['correct'], r['preds'], r['init_sha256'], [e['train_loss'] for e in r['curve']]) for r in a.runs]==[
            (r['correct'], r['preds'], r['init_sha256'], [e['train_loss'] for e in r['curve']]) for r in b.runs]

@pytest.mark.parametrize('engine', ('fast', pytest.param('fastai', marks=pytest.mark.slow)))
def test_a_bar_in_a_terminal_changes_no_count(engine, tmp_path, monkeypatch, capsys):
    from woofbench import run
    monkeypatch.setenv('TERM', 'xterm')
    plain = run('digits', seeds=2, engine=engine, out=tmp_path/'log', **small)
    log = capsys.readouterr().out
    with Terminal() as t: drawn = run('digits', seeds=2, engine=engine, out=tmp_path/'terminal', **small)
    assert same(plain, drawn)
    assert 'seed 1 of 2, epoch 1/1, batch ' in t.text and 'seed 2 of 2, epoch 1/1, batch ' in t.text
    assert re.search(r'\d+ % \d\d:\d\d, \d\d:\d\d left', t.text) and '100 %' in t.text
    assert '2 of 2 seeds trained' in t.text and 'seed 3 of' not in t.text
    lines = [o for o in re.split('[\r\n]+', t.text) if o.startswith(('seed 0  epoch 1/1', 'seed 1  epoch 1/1'))]
    assert len(lines)==2, 'the last epoch of each seed leaves a line'
    # a log: no control characters, a line for each epoch
    assert log.isascii() and not re.search('[\r\x1b]', log) and len(re.findall('^seed [01]  epoch 1/1', log, re.M))==2

def test_a_terminal_without_a_width_has_a_bar(monkeypatch):
    "As `docker run -t` from a script makes it"
    monkeypatch.setenv('TERM', 'xterm')
    with Terminal() as t:
        fcntl.ioctl(t.its, termios.TIOCSWINSZ, struct.pack('HHHH', 0, 0, 0, 0))
        b = RowBar(2, 0, 1, (100, 50), print)
        b.step(0, 1, 3, 4, 64, True)
        b.close()
    assert 'seed 1 of 2, epoch 1/1, batch 3/4' in t.text

def test_say_decides(tmp_path, monkeypatch, capsys):
    from woofbench import run
    said = []
    with Terminal() as t: run('digits', seeds=1, out=tmp_path/'none', say=None, **small)
    assert t.text==''
    with Terminal() as t: run('digits', seeds=1, out=tmp_path/'mine', say=said.append, **small)
    assert t.text=='' and any(o.startswith('seed 0  epoch 1/1') for o in said)
    monkeypatch.setenv('TERM', 'dumb')
    with Terminal() as t: assert not live(print)
    assert not live(print) and not live(quiet)

@pytest.mark.parametrize('how', (dict(capture=True), pytest.param({}, marks=pytest.mark.slow)),
                         ids=('threads','processes'))
def test_several_seeds_at_once_share_a_bar(monkeypatch, how):
    from woofbench.commands.prepare import plan
    from woofbench.train.machine import Machine
    from woofbench.train.multi_seed import train_seeds
    from woofbench.train.watch import Shown
    monkeypatch.setenv('TERM', 'xterm')
    job = plan('digits', recipe='digits', **{k:v for k,v in small.items() if k!='device'})
    machine = Machine('cpu', seeds_at_once=2)
    alone = list(train_seeds(job, [0, 1], Machine('cpu')))
    with Terminal() as t:
        runs = []
        with Shown(job, 2, 0, print) as shown:
            for r in train_seeds(job, [0, 1], machine, watch=shown.watch, **how):
                runs.append(r)
                shown.seed(r.seed)
    assert 'seeds 1 to 2 of 2, epoch 1/1' in t.text and shown.bar.bar.n==shown.bar.bar.total
    assert [(r.seed, r.preds) for r in sorted(runs, key=lambda o: o.seed)]==[(r.seed, r.preds) for r in alone]

def test_a_bar_that_breaks_off_leaves_the_terminal_clean(monkeypatch):
    from woofbench.commands.prepare import plan
    from woofbench.train.watch import Shown
    monkeypatch.setenv('TERM', 'xterm')
    with Terminal() as t, pytest.raises(KeyboardInterrupt):
        with Shown(plan('digits', **{k:v for k,v in small.items() if k!='device'}), 3, 1, print) as shown:
            raise KeyboardInterrupt
    assert 'seed 2 of 3' in t.text and t.text.split('\r')[-1].strip()=='' and shown.bar.bar.disable

def test_a_bar_costs_less_than_a_hundredth_of_an_epoch(monkeypatch):
    "Against the quickest batch of digits, which takes 4 ms and more"
    from woofbench.train.watch import Watch
    monkeypatch.setenv('TERM', 'xterm')
    with Terminal():
        b = RowBar(5, 0, 5, (1408, 360), print)
        w = Watch(lambda *o: b.step(0, *o))
        w.learn = SimpleNamespace(epoch=0, iter=3, n_iter=44, yb=(range(32),), training=True)
        n,took = 5000,[]
        for _ in range(3):
            t = time.process_time()
            for _ in range(n): w.after_batch()
            took.append((time.process_time()-t)/n)
        b.close()
    assert min(took) < .004/100, took

def test_watch_only_observes():
    "It has one event, and there it reads no tensor: numbers of the loop, and a length"
    from woofbench.train.watch import Watch
    assert [o for o in vars(Watch) if o.startswith(('before_','after_'))]==['after_batch'] and Watch.observes
    seen = []
    w = Watch(lambda *o: seen.append(o))
    w.learn = SimpleNamespace(epoch=1, iter=2, n_iter=3, yb=([0]*4,), training=False)
    w.after_batch()
    assert seen==[(2, 3, 3, 4, False)] and all(type(v) in (int,bool) for v in seen[0])

def test_loops_over_files_have_the_same_bar(tiny, monkeypatch):
    "Verification and decoding"
    import torch
    from woofbench.data.batches import load_images
    from woofbench.data.manifest import verify
    from woofbench.data.track import Track
    drawn = []
    monkeypatch.setattr('woofbench.progress.tqdm_bar', lambda iterable, **kw: drawn.append(kw['desc']) or iterable)
    monkeypatch.setattr('woofbench.progress.live', lambda say: say is print)
    with speaking(None): verify(tiny, 'imagewoof', bar)
    assert not drawn
    monkeypatch.setenv('WOOFBENCH_CACHE', str(tiny.parent/'cache')) # where nothing is known of these images
    with speaking(print):
        m = verify(tiny, 'imagewoof', bar)
        load_images(m, Track('imagewoof', 32, 1, m.source), torch.device('cpu'), cache=False)
    assert 'verify' in drawn and 'decode' in drawn

def test_a_long_loop_says_lines_in_a_log(monkeypatch):
    said = []
    monkeypatch.setattr('woofbench.progress.EVERY', 0)
    with speaking(said.append): assert list(bar(range(3), total=3, desc='decode'))==[0, 1, 2]
    assert said==['decode: 0 of 3', 'decode: 1 of 3', 'decode: 2 of 3']

def test_a_log_gets_each_line_when_it_is_said(tmp_path):
    "Not when a buffer is full, which is minutes later"
    code = """import os, sys
from woofbench.commands import cli
from woofbench.commands.flags import verb
@verb()
def bark():
    "Bark"
    print('woof')
    os._exit(0)
cli.main(['bark'])"""
    (tmp_path/'bark.py').write_text(code)
    p = subprocess.run([sys.executable, tmp_path/'bark.py'], capture_output=True, text=True,
                       env=os.environ | dict(PYTHONPATH=str(root)))
    assert p.stdout=='woof\n', p.stderr


# JSON, pictures, exit codes

def document(cli, line, rc=0):
    "What a command prints, which has to be JSON for every reader and nothing else"
    def refuse(o): raise AssertionError(o)
    got,out,err = cli(line)
    assert got==rc, (line, got, err)
    return json.loads(out, parse_constant=refuse)

def test_every_command_that_prints_a_result_has_json():
    for name in set(verbs)-{'site','new'}:
        p = make_parser()
        known = [o for o in flags_of(verbs[name].do) if o.name=='json']
        assert known and known[0].default is False, f'{name} has no --json'
        del p

def test_what_commands_print_is_json(cli, trained, tmp_path):
    out,a,b = trained
    row = document(cli, f'run --json {SMALL} --device cpu --out {tmp_path}')
    assert len(row['runs'])==2 and Path(row['record']).is_file() and 0<row['mean']<1
    assert row['correct']==' '.join(str(o['correct']) for o in row['runs'])
    rows = document(cli, f'board --json --out {out}')['rows']
    assert {o['id'] for o in rows}=={a.id, b.id}
    v = document(cli, f'compare {a.id} {b.id} --json --out {out}')
    assert v['sentence'].endswith('.') and v['lo']<v['diff']<v['hi']
    assert document(cli, f'check {out} --json', 3)==document(cli, f'check {out} --as json', 3)
    r = document(cli, f'reproduce {a.id} --quick --json --device cpu --out {out}')
    assert r['word']=='identical' and r['row'] is None
    abl = document(cli, f'ablate --json --one-at-a-time lr=.01 {SMALL} --device cpu --out {tmp_path}')
    assert abl['base']['id']==row['id'] and abl['table'][0]['label']=='lr=0.01' and Path(abl['plot']).is_file()

def test_what_other_commands_print_is_json(cli, monkeypatch):
    cost = document(cli, 'cost --json --arch xresnet10_tiny --size 32 --bs 4 --rounds 1 --act mish')
    assert len(cost['networks'])==2 and cost['measured']['size']==32
    assert {'mish','relu'} <= {o['name'] for o in document(cli, 'parts --json') if o['kind']=='act'}
    assert [o['kind'] for o in document(cli, 'parts mish --json')]==['act']
    assert {o['kind'] for o in document(cli, 'parts pool --json')}=={'pool'}
    found = document(cli, f'doctor --json --out {root}')
    assert {'torch','bf16','imagewoof','cache','board'} <= {o['what'] for o in found}
    assert set(document(cli, 'cache --json'))=={'removed','entries'}
    def submit(
        id, say=print, *,
        dry:bool=False # Send nothing
    ): say('one\ntwo')
    monkeypatch.setattr('woofbench.commands.submit.submit', submit)
    assert document(cli, 'submit 12 --dry-run --json')==dict(dry_run=True, address=None, said=['one','two'])

def test_mistakes_leave_standard_output_empty(cli):
    rc,out,err = cli('run --json --dataset nope')
    assert rc==2 and out=='' and len(err.splitlines())==1

def test_nan_is_not_json():
    import numpy as np
    from woofbench.commands.show import to_json
    assert json.loads(to_json(dict(a=float('nan'), b=np.float32(1), c=[np.arange(2)], d=Path('x'))))==dict(
            a=None, b=1., c=[[0,1]], d='x')

def test_exit_codes_are_in_one_table(cli):
    import inspect
    from woofbench.commands import cli as program, verbs as commands
    said = {int(o) for m in (commands, program)
            for o in re.findall(r"(?:'[a-z ]+':|return )(\d+)\b", inspect.getsource(m))}
    assert said<=set(EXIT) and {1,2,3,130,141}<=said
    text = cli('--help')[1]
    assert all(re.search(rf'^  {k} +{re.escape(v)}$', text, re.M) for k,v in EXIT.items())

def test_an_error_that_nobody_foresaw_has_a_code_of_its_own(monkeypatch, capsys):
    from woofbench.commands import cli as program
    def fails(*args): raise ZeroDivisionError('of the test')
    monkeypatch.setattr(program, 'call', fails)
    monkeypatch.setattr(sys, 'argv', ['woofbench', 'parts'])
    assert program.main()==70 and 'ZeroDivisionError: of the test' in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError): program.main(['parts'])

@pytest.mark.parametrize('line,says', (('run --set lr=1 --set lr=2', 'lr is given twice'),
                                       ('run --act relu --set act=mish', 'act is given twice')))
def test_a_field_that_is_set_twice_is_refused(refused, line, says): assert says in refused(line)

def test_of_a_flag_that_is_repeated_the_last_one_counts():
    "So that a line in your notes or an alias can be followed by another value"
    args = make_parser().parse_strict('run --seeds=1 --act relu --no-cache --act mish --cache --seeds 2'.split())
    assert (args.seeds, args.act, args.cache)==(2, 'mish', True)

def picture(path): return Path(path).read_bytes().startswith(b'\x89PNG')

def test_plots(cli, trained, tmp_path):
    out,a,b = trained
    rc,said,_ = cli(f'run --plot {SMALL} --device cpu --out {tmp_path/"new"}')
    assert rc==0 and picture(tmp_path/'new'/'run.png') and f'plot:   {tmp_path/"new"/"run.png"}' in said
    for line,name in ((f'board --plot {tmp_path}/b.png --out {out}', 'b.png'),
                      (f'compare {a.id} {b.id} --plot {tmp_path}/c.png --out {out}', 'c.png')):
        assert cli(line)[0]==0 and picture(tmp_path/name)
    assert cli(f'board --check --plot --out {out}')[0]==0 and picture(out/'board.png')
    assert cli(f'compare {a.id} {b.id} --plot --out {out}')[0]==0 and picture(out/'compare.png')

def test_a_plot_that_cannot_be_written_is_refused_first(refused, tmp_path):
    "Before hours of training"
    assert 'no format .doc' in refused(f'run --plot {tmp_path}/a.doc --out {tmp_path}')
    assert not (tmp_path/'records').exists()


# A plan, the doctor, the cache

def test_a_dry_run_trains_and_writes_nothing(cli, tmp_path, monkeypatch):
    from woofbench.commands.prepare import plan
    def fit(*a, **kw): raise AssertionError('a dry run trains')
    monkeypatch.setattr('woofbench.train.learner.fit', fit)
    p = plan('digits', act='relu', aug='trivial', aug_strength=.4, **{k:v for k,v in small.items() if k!='device'})
    before = files(os.environ['WOOFBENCH_CACHE'])
    fields = '--act relu --aug trivial --aug-strength .4'
    rc,out,err = cli(f'run --dry-run {SMALL} {fields} --device cpu --out {tmp_path/"new"}')
    assert rc==0 and not (tmp_path/'new').exists() and files(os.environ['WOOFBENCH_CACHE'])==before, err
    said = dict(re.findall(r'^(\w+): +(.+)$', out, re.M))
    assert {'plan','network','config','seeds','machine','images','time','memory','board'}<=set(said)
    assert said['config']==p.config_id and said['seeds']=='0, 1' and 'measured now' in said['time']
    assert re.search(r'\d MiB for weights.* MiB for a batch of 128', said['memory'])

@pytest.mark.parametrize('flags,hint', [('--precision fp16', 'CUDA'), ('--aug alternate_flip', 'flip=0'),
    ('--sched one_cycle --vary mom', 'one_cycle'), ('--aug mix --mixup .2', 'both change labels')])
def test_a_dry_run_refuses_what_a_run_refuses(refused, tmp_path, flags, hint):
    words = f'--dataset digits --flip .5 {flags} --device cpu --out {tmp_path}'
    assert hint in refused(f'run --dry-run {words}') and hint in refused(f'run {words}')
    assert not (tmp_path/'records').exists()

def test_a_dry_run_knows_the_time_of_rows_that_are_there(cli, trained):
    out,a,_ = trained
    f = document(cli, f'run --dry-run --json {SMALL} --device cpu --out {out}')
    assert f['config_id']==a.config_id and a.id[:8] in f['how'] and f['fetch'] is False
    assert f['seconds']==pytest.approx(2*float(a.line()['s_per_epoch']), abs=.05)

def test_the_time_of_growing_images_is_that_of_all_epochs():
    from types import SimpleNamespace as Any
    from woofbench.board.row import timed_epochs
    runs = [dict(curve=[dict(train_s=s*slow, eval_s=1) for s in (1,1,4)]) for slow in (1,2,3)]
    assert timed_epochs(Any(recipe=Any(progressive=.5), runs=runs))==[dict(train_s=4, eval_s=1)]
    assert len(timed_epochs(Any(recipe=Any(progressive=1.), runs=runs)))==9

def test_a_dry_run_knows_growing_images_and_the_optimiser(tmp_path, monkeypatch):
    "A network that takes as many milliseconds for an image as it has pixels on a side, and steps of two seconds"
    from woofbench.commands import estimate as module
    monkeypatch.setattr(module, 'speeds', lambda specs, size, *a: [dict(train=(1000/size,), infer=(1000/size,))])
    monkeypatch.delenv('WOOFBENCH_DATA', raising=False)
    monkeypatch.setenv('WOOFBENCH_CACHE', str(tmp_path/'cache'))
    def seconds(**kw):
        kw |= dict(dataset='imagewoof', size=128, arch='xresnet10_tiny', device='cpu', out=tmp_path)
        return module.estimate(kw).epoch_s
    n,n_val = 9025,3929
    with monkeypatch.context() as m:
        m.setattr(module, '_step_seconds', lambda *a: 2)
        assert seconds(bs=64)==pytest.approx(n*.128 + n//64*2 + n_val*.128)
        # half of the steps at 64 px, a fifth at 128 px, the rest at 64 and 96 px
        assert seconds(bs=64, progressive=.5)==pytest.approx(n*(.65*64 + .15*96 + .2*128)/1000 + n//64*2 + n_val*.128)
    assert seconds(opt='muon')>seconds(opt='sgd')>n*.128 + n_val*.128

def test_a_dry_run_downloads_nothing(cli, tmp_path, monkeypatch):
    def untar(*a, **kw): raise AssertionError('a dry run downloads')
    monkeypatch.setattr('fastai.data.external.untar_data', untar)
    monkeypatch.setenv('WOOFBENCH_CACHE', str(tmp_path/'cache'))
    f = document(cli, 'run --dry-run --json --dataset imagewoof --size 32 --arch xresnet10_tiny --epochs 2 --official '
                      f'--device cpu --out {tmp_path}')
    from woofbench.board.record.seeds import official_seeds
    assert f['fetch'] and f['seeds']==official_seeds(f['config_id']) and f['seconds']>0
    assert document(cli, f'run --dry-run --json {SMALL} --device cpu')['fetch'] and not (tmp_path/'cache').exists()

def test_a_dry_run_refuses_what_a_run_refuses(refused, tmp_path):
    assert 'unknown act' in refused(f'run --dry-run --act mihs --out {tmp_path}')
    assert 'five seeds' in refused(f'run --dry-run --official --seeds 3 --out {tmp_path}')

def test_doctor_says_what_to_do(cli, tmp_path, monkeypatch):
    monkeypatch.setenv('WOOFBENCH_DATA', str(tmp_path/'gone'))
    rc,out,_ = cli(f'doctor --out {tmp_path}')
    assert rc==0 and 'nothing stops a run' in out and 'no such folder' in out and 'set WOOFBENCH_DATA' in out
    for o in ('woofbench','python','torch','fastai','device','bf16','memory','imagewoof','cache','disk of the board'):
        assert re.search(rf'^{o} +\S', out, re.M), o
    assert 'none in' in out and 'the first run makes one here' in out
    rc,out,_ = cli('doctor --out /proc')
    assert rc==1 and 'something stops a run' in out and '! choose a folder that you may write to' in out
    assert re.search(rf'board +\d+ rows in {re.escape(str(root))}$', cli(f'doctor --out {root}')[1], re.M)

def test_cache_is_listed_and_cleared(cli, refused, tmp_path, monkeypatch):
    monkeypatch.setenv('WOOFBENCH_CACHE', str(tmp_path/'cache'))
    assert '0.0 MiB' in cli('cache')[1] and cli('cache --clear')[0]==0
    (tmp_path/'cache'/'digits-32').mkdir(parents=True)
    for o in ('digits-32/a','store-1.rgb','store-2.rgb'): (tmp_path/'cache'/o).write_bytes(b'x'*(1<<20))
    (tmp_path/'mine').write_text('x')
    assert '3.0 MiB' in cli('cache')[1]
    assert 'did you mean store-1.rgb' in refused('cache --clear store-1.rbg')
    for i in range(9): (tmp_path/f'cache/store-{i+10}.rgb').touch()
    assert len(said := refused('cache --clear nope'))<200 and 'and more' in said
    for i in range(9): (tmp_path/f'cache/store-{i+10}.rgb').unlink()
    assert 'no entry' in refused('cache --clear ../mine') and (tmp_path/'mine').exists()
    got = document(cli, 'cache --clear store-1.rgb --json')
    assert [o['name'] for o in got['removed']]==['store-1.rgb'] and len(got['entries'])==2
    assert 'removed 2 entries, 2.0 MiB' in cli('cache --clear')[1] and not list((tmp_path/'cache').iterdir())


# Boards above

def test_commands_find_the_board_above(cli, trained, tmp_path, monkeypatch):
    out,a,b = trained
    deep = out/'notes'/'june'
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert home()==out
    rc,text,_ = cli('board --check')
    assert rc==0 and a.id in text
    assert a.id[:8] in cli(f'compare {a.id[:8]} {b.id[:8]}')[1]
    assert 'verdict: needs audit' in cli('check')[1]
    rc,text,_ = cli(f'run {SMALL} --device cpu')
    assert text.splitlines()[0]==f'board: {out}, above this folder; --out takes another' and a.id in text
    assert not list(deep.iterdir())
    row = document(cli, f'run {SMALL} --device cpu --out . --json')
    assert Path(row['record']).is_file() and (deep/'records').is_dir(), '--out wins'

def test_python_finds_the_board_above(trained, tmp_path, monkeypatch):
    "As the command line does; a folder that you name is taken as it is"
    from woofbench import Row, compare, leaderboard
    out,a,b = trained
    deep = out/'notes'/'july'
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert {a.id, b.id} <= set(leaderboard().id) and Row.load(a.id[:8]).path==a.path
    assert compare(a.id[:8], b.id[:8]).sentence()==compare(a, b, out).sentence()
    assert not len(leaderboard('.')) and not list(deep.iterdir())
    for o in (lambda: Row.load(a.id, '.'), lambda: compare(a.id, b.id, '.')):
        with pytest.raises(woofbench.BadInput): o()
    monkeypatch.chdir(tmp_path)
    assert not len(leaderboard()), 'there is no board above'

def test_board_writes_nothing_where_there_is_none(refused, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in ('board', f'board --out {tmp_path}', 'board --check'):
        assert 'there is no board in' in refused(line) and not list(tmp_path.iterdir())
    (tmp_path/'records').mkdir()
    assert cli('board')[0]==0 and (tmp_path/'leaderboard.csv').exists()

def test_what_is_a_board(tmp_path):
    for names,yes in (((), False), (('records/',), False), (('records/','leaderboard.csv'), True),
                      (('leaderboard.csv','woofbench.toml'), True), (('records/','.git/'), True),
                      (('woofbench.toml','.git/'), False), (('.woofbench/',), True)):
        folder = tmp_path/str(names).replace('/', '')
        folder.mkdir()
        for o in names: (folder/o).mkdir() if o.endswith('/') else (folder/o).write_text('')
        assert is_board(folder) is yes, names
    assert is_board(root)

@pytest.mark.skipif(not hasattr(os, 'getuid'), reason='folders have no owner')
def test_a_board_above_that_belongs_to_another_user_is_passed_over(tmp_path, monkeypatch):
    "Its project file would run his code"
    (tmp_path/'.woofbench').mkdir()
    (tmp_path/'a').mkdir()
    assert home(tmp_path/'a')==tmp_path
    me = os.getuid()
    monkeypatch.setattr(os, 'getuid', lambda: me+1)
    assert home(tmp_path/'a')==tmp_path/'a' and home(tmp_path)==tmp_path

def test_the_project_file_is_found_with_the_board(tmp_path, monkeypatch):
    (tmp_path/'.woofbench').mkdir()
    (tmp_path/'below').mkdir()
    (tmp_path/'woofbench.toml').write_text('import = "everyday_part.py"')
    (tmp_path/'everyday_part.py').write_text('from woofbench.models.parts import acts\nfrom torch import nn\n'
                                             'acts.register("everyday_act")(nn.ReLU)')
    monkeypatch.chdir(tmp_path/'below')
    from woofbench.models.parts import acts
    try:
        make_parser().parse_strict(['run', '--act', 'everyday_act'])
        assert 'everyday_act' in acts
    finally:
        acts.pop('everyday_act', None)
        sys.modules.pop('everyday_part', None)

def test_a_verb_without_a_board_is_left_alone(tmp_path, monkeypatch):
    (tmp_path/'.woofbench').mkdir()
    (tmp_path/'a').mkdir()
    monkeypatch.chdir(tmp_path/'a')
    assert _on_board(Verb(None, {}, (), '', {}), {})=={}
    assert _on_board(verbs['check'], dict(base='main'))==dict(base='main')
    assert _on_board(verbs['check'], {})==dict(path=str(tmp_path))


# At the top, and in a notebook

def test_the_top_has_what_you_use_every_day():
    assert {'run','learner','ablate','compare','reproduce','submit','leaderboard','Row','acts','BadInput'}<=set(
            woofbench.__all__)
    from woofbench import compare
    v = compare('021a2b1c', '7f014871', root)
    assert str(v).splitlines()[0]==v.sentence()
    html = v._repr_html_()
    assert v._repr_png_().startswith(b'\x89PNG') and 'data:image/png;base64,' in html
    assert html.count('<li>')==len(v.lines()) and '<script' not in html

def test_a_mistake_is_one_line_in_a_notebook():
    "As IPython shows it, which a notebook's kernel is made of"
    from IPython.core.interactiveshell import InteractiveShell
    shell,shown = InteractiveShell(),[]
    shell._showtraceback = lambda kind, value, lines: shown.append(lines)
    for code in ("from woofbench.registry import BadInput; raise BadInput('unknown act')",
                 "from woofbench.files import NoLock; raise NoLock('no lock')", '1/0'):
        shell.run_cell(code)
    assert shown[:2]==[['BadInput: unknown act'], ['NoLock: no lock']] and len(shown[2])>1

def test_a_first_row_begins_without_a_warning_of_others():
    "fastai calls what PyTorch will take away; a notebook shows that in red"
    code = "import woofbench, warnings; warnings.warn('`torch.jit.script` is deprecated. Please', FutureWarning); " \
           "import fastai.layers; warnings.warn('mine', FutureWarning)"
    env = {k:v for k,v in os.environ.items() if k!='PYTHONWARNINGS'}
    p = python(code, env=env | dict(PYTHONPATH=str(root)))
    assert p.returncode==0 and 'torch.jit' not in p.stderr and 'FutureWarning: mine' in p.stderr, p.stderr

def test_a_notebook_has_a_bar(monkeypatch):
    class ZMQInteractiveShell: kernel = object()
    import IPython
    monkeypatch.setitem(sys.modules, 'ipykernel', SimpleNamespace())
    monkeypatch.setattr(IPython, 'get_ipython', lambda: ZMQInteractiveShell())
    assert live(print) and not live(None)
    err = io.StringIO()
    monkeypatch.setattr(sys, 'stderr', err)
    b = RowBar(2, 0, 1, (100, 50), print)
    b.step(0, 1, 3, 4, 64, True)
    b.close()
    assert 'seed 1 of 2, epoch 1/1, batch 3/4' in err.getvalue()


# Other systems

@pytest.mark.slow
def test_without_what_only_posix_has(tmp_path):
    "No fcntl, resource, pty or pwd; no sysconf, getuid, fork, pwrite, pread, killpg; few signals; a full row of digits"
    code = f'''
import os, sys
for o in ('fcntl','resource','pty','termios','pwd','grp'): sys.modules[o] = None
import torch, fastai.vision.all, multiprocessing, subprocess, signal # these know Windows themselves
for o in 'sysconf getuid geteuid fork forkpty pwrite pread killpg sched_getaffinity mkfifo'.split():
    if hasattr(os, o): delattr(os, o)
for o in ('SIGKILL','SIGHUP','SIGXFSZ','SIGALRM','SIGPIPE'): delattr(signal, o)
from woofbench.commands.cli import main
out = {str(tmp_path)!r}
words = '{SMALL} --device cpu --out'.split()
print([main(['run', *words, out]), main(['run', *words, out, '--engine', 'fastai']), main(['board', '--out', out]),
       main(['doctor', '--out', out]), main(['cache']), main(['run', '--dry-run', *words, out])])
'''
    p = python(code, env=os.environ | dict(WOOFBENCH_CACHE=str(tmp_path/'cache')))
    assert p.stdout.splitlines()[-1]=='[0, 0, 0, 0, 0, 0]', p.stdout+p.stderr
    assert list((tmp_path/'cache').glob('store-*.rgb')), 'decoded images are kept without pwrite, too'

class Backslashes:
    "`os` as Windows has it, for names below a folder"
    sep = '\\'
    class path:
        basename = staticmethod(os.path.basename)
        realpath = staticmethod(os.path.realpath)
        @staticmethod
        def join(*parts): return '\\'.join(parts)
        @staticmethod
        def relpath(*args): return os.path.relpath(*args).replace('/', '\\')
    def __getattr__(self, k): return getattr(os, k)

def test_backslashes_in_names_change_no_manifest(tiny, monkeypatch):
    from woofbench.data.images import list_images
    from woofbench.data.manifest import verify
    m,names = verify(tiny, 'imagewoof'),list_images(tiny, 'train')
    monkeypatch.setattr('woofbench.data.images.os', Backslashes())
    assert list_images(tiny, 'train')==names and not any('\\' in o for o in names)
    assert verify(tiny, 'imagewoof').sha256==m.sha256

def test_loaders_can_be_sent_to_a_process_that_begins_anew(tiny):
    "As Windows, macOS and Python 3.14 do it: a function within a function would not arrive"
    import pickle
    from woofbench.data.loaders import Batching, make_loaders
    from woofbench.data.manifest import verify
    from woofbench.data.track import Track
    m = verify(tiny, 'imagewoof')
    dls = make_loaders(m, Track('imagewoof', 32, 1, m.source), Batching(bs=8, erase=.3), device='cpu')
    back = pickle.loads(pickle.dumps((dls.train, dls.valid)))
    assert [len(o.dataset) for o in back]==[len(m.train), len(m.val)]
    assert back[1].dataset[0][1]==dls.valid.dataset[0][1]

@pytest.mark.slow
def test_without_fork(tmp_path):
    "Loader processes that begin anew, as on Windows and macOS, give the same images, and so does the process itself"
    code = f'''
import multiprocessing, sys
if __name__=='__main__':
    multiprocessing.set_start_method(sys.argv[1], force=True)
    from woofbench import run
    print(run('digits', seeds=1, out={str(tmp_path)!r}+'/'+''.join(sys.argv[1:]), engine='fastai',
              workers=int(sys.argv[2]), say=None, size=16, epochs=1, arch='xresnet10_tiny',
              device='cpu').runs[0]['curve'][0]['valid_loss'])
'''
    (tmp_path/'one.py').write_text(code)
    ways = ('fork','2'),('spawn','2'),('spawn','0')
    got = [subprocess.run([sys.executable, tmp_path/'one.py', *o], capture_output=True, text=True, cwd=root,
                          env=os.environ | dict(PYTHONPATH=str(root))) for o in ways]
    assert 0<float(got[0].stdout)<9 and len({o.stdout for o in got})==1, got

newer = 'tomllib StrEnum Self assert_never LiteralString ExceptionGroup TaskGroup batched override chdir UTC'.split()

@pytest.mark.parametrize('path', sorted((root/'woofbench').rglob('*.py')), ids=lambda o: o.stem)
def test_python_3_10_can_read_it(path):
    "Its syntax, and no names of the standard library that came later, but where an older Python has another way"
    tree = ast.parse(path.read_text(encoding='utf-8'), feature_version=(3, 10))
    guarded = {id(x) for o in ast.walk(tree) if isinstance(o, ast.Try) for x in ast.walk(o)}
    said = {a.name for o in ast.walk(tree) if isinstance(o, (ast.Import,ast.ImportFrom)) and id(o) not in guarded
            for a in o.names}
    assert not said & set(newer) and not [o for o in ast.walk(tree) if type(o).__name__=='TryStar']

def test_python_3_10_has_a_reader_of_toml():
    from configparser import ConfigParser
    cfg = ConfigParser(delimiters=['='])
    cfg.read(root/'settings.ini')
    assert 'tomli;python_version<"3.11"' in cfg['DEFAULT']['requirements'].split()
    assert "'tomllib'" not in (root/'setup.py').read_text() and 'import tomllib' not in (root/'setup.py').read_text()

def test_windows_and_macos_train_digits_in_ci():
    import yaml
    jobs = yaml.safe_load((root/'.github/workflows/ci.yml').read_text())['jobs']
    job = jobs['elsewhere']
    assert {o.split('-')[0] for o in job['strategy']['matrix']['os']}=={'windows','macos'}
    lines = [o['run'] for o in job['steps'] if 'run' in o]
    for o in lines:
        words = shlex.split(o)
        assert words[:2]==['python','-m'], 'no shell of one system'
        if words[2]=='woofbench': make_parser().parse_strict(words[3:])
    assert any('run --dataset digits' in o for o in lines)


# Installation

def first_block():
    cells = json.loads((root/'nbs/index.ipynb').read_text(encoding='utf-8'))['cells']
    text = ''.join(x for c in cells for x in c['source'])
    return re.search(r'```sh\n(.*?)```', text, re.S)[1].splitlines()

def test_the_readme_begins_with_pip(tmp_path):
    "The line as it stands; git takes a local bare clone where it reads the address"
    repo = re.search(r'^Repository = "(.+)"', (root/'pyproject.toml').read_text(encoding='utf-8'), re.M)[1]
    line = first_block()[0]
    assert line==f'pip install "woofbench @ git+{repo}"'
    bare,to = tmp_path/'woofbench.git',tmp_path/'site'
    subprocess.run(['git', 'clone', '-q', '--bare', root, bare], check=True)
    here = dict(GIT_CONFIG_COUNT='1', GIT_CONFIG_KEY_0=f'url.{bare.as_uri()}.insteadOf', GIT_CONFIG_VALUE_0=repo)
    words = [sys.executable, '-m', *shlex.split(line), '-q', '--no-deps', '--no-build-isolation', '--target', str(to)]
    subprocess.run(words, check=True, cwd=tmp_path, env=os.environ | here)
    p = subprocess.run([sys.executable, '-m', 'woofbench', '--version'], capture_output=True, text=True, cwd=tmp_path,
                       env=os.environ | dict(PYTHONPATH=str(to)))
    assert p.stdout.startswith('woofbench ') and (to/'woofbench/cards.json').exists(), p
    assert (to/'woofbench/web/static').is_dir() and list(to.glob('woofbench-*.dist-info'))

def test_the_first_lines_of_the_readme_are_commands():
    for o in first_block()[1:]: make_parser().parse_strict(shlex.split(o, comments=True)[1:])

def test_the_page_for_newcomers_names_tests_that_exist():
    "What users of other libraries expect, each with its test"
    text = ''.join(x for c in json.loads((root/'nbs/coming_from.ipynb').read_text(encoding='utf-8'))['cells']
                   for x in c['source'])
    named = re.findall(r'`(test_\w+\.py)::(test_\w+)`', text)
    assert len(named)>=15
    for file,name in named:
        assert re.search(rf'^def {name}\(', (root/'tests'/file).read_text(encoding='utf-8'), re.M), name
    assert all((root/'nbs'/o).stat().st_size<40_000 for o in re.findall(r"Image\('(.+)'\)", text))
    for o in re.findall(r'^(?:[A-Z_]+=\d+ )?woofbench (run .+)$', text, re.M):
        make_parser().parse_strict(shlex.split(o))
