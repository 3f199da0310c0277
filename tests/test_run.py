"The program from end to end: runs, resumes, refusals, and what it does with files that others have touched"
import csv, http.server, json, os, re, shutil, signal, subprocess, sys, tarfile, threading, time
from functools import partial
from pathlib import Path
import pytest
import torch
from conftest import picture, real_data, root, tiny_dataset
from warm import Program, python

program = Path(sys.executable).with_name('woofbench')
quick = 'run --dataset digits --size 16 --bs 128 --epochs 1'.split()
woof = 'run --dataset imagewoof --arch xresnet10_tiny --size 32 --epochs 1 --seeds 1 --bs 8 --workers 0'


def start(*args): return Program(['woofbench', *args])

def stop_in_seed_1(sig, out):
    "Start thirty seeds, send `sig` when the first is on disk; exit code and errors"
    # Thirty are enough to be stopped in, however busy the machine
    p = start(*quick, '--seeds', '30', '--out', str(out))
    while p.poll() is None and not list(out.rglob('seed-0.json')): time.sleep(.02)
    p.send_signal(sig)
    _,err = p.communicate(timeout=120)
    return p.returncode, err

def records(out): return [json.loads(o.read_text()) for o in sorted((out/'records').rglob('*.json'))]
def lines(out): return list(csv.DictReader((out/'leaderboard.csv').open(newline='')))
def numbers(rec):
    return [(r['seed'], r['correct'], r['preds'], r['init_sha256'],
             [(o['train_loss'], o['valid_loss']) for o in r['curve']]) for r in rec['runs']]


@pytest.fixture(scope='module')
def board(tmp_path_factory):
    "A board with one row of two seeds, made from a shell"
    out = tmp_path_factory.mktemp('board')
    p = subprocess.run([program, *quick, '--seeds', '2', '--out', out], capture_output=True, text=True, timeout=200)
    assert p.returncode==0 and not p.stderr, p.stderr
    return out, p.stdout

@pytest.fixture
def copy(board, tmp_path): return shutil.copytree(board[0], tmp_path/'copy')


# Rows

def test_a_run_writes_a_record_and_a_line(board):
    out,text = board
    rec, = records(out)
    line, = lines(out)
    assert [r['seed'] for r in rec['runs']]==[0,1] and line['id']==rec['record_id'] and line['n']=='2'
    assert float(line['mean'])==pytest.approx(sum(r['correct'] for r in rec['runs'])/2/360, abs=1e-5)
    assert rec['record_id'] in text and 'seed 1' in text and str(out/'leaderboard.csv') in text
    assert line['status'].startswith('unranked: ') and '2 of 5 seeds' in line['status']
    assert [o.name for o in (out/'.woofbench').rglob('*')]==['lock'], 'seeds are tidied away once the record is there'

def test_the_very_same_row_is_not_trained_twice(copy):
    p = start(*quick, '--seeds', '2', '--out', str(copy))
    out,err = p.communicate(timeout=200)
    assert p.returncode==0 and 'there already' in out and len(records(copy))==1, err


def test_killed_and_started_again(board, tmp_path):
    "kill -9 between the seeds: the rerun keeps the first and ends with the numbers of an undisturbed run"
    args = [*quick, '--seeds', '2', '--out', str(tmp_path)]
    rc,_ = stop_in_seed_1(signal.SIGKILL, tmp_path)
    assert rc==-signal.SIGKILL and not (tmp_path/'records').exists()
    p = start(*args)
    out,err = p.communicate(timeout=200)
    assert p.returncode==0, err
    assert 'continuing: 1 of 2' in out and 'seed 0  epoch' not in out
    assert numbers(records(tmp_path)[0])==numbers(records(board[0])[0])

def test_interrupt_says_how_to_go_on(tmp_path):
    rc,err = stop_in_seed_1(signal.SIGINT, tmp_path)
    assert rc==130 and 'same command goes on' in err and 'Traceback' not in err
    assert len(list(tmp_path.rglob('seed-0.json')))==1

FREED = """
import os, signal, woofbench
from fastai.callback.core import Callback
woofbench._ctrl_c()

class Freed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10): pass

class Frees(Callback):
    def after_batch(self):
        print(self.iter)
        if self.iter==2: Freed()

learn = woofbench.learner('digits', size=16, arch='xresnet10_tiny', bs=128, workers=0, cbs=Frees())
try:
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
except KeyboardInterrupt: print('stopped')
"""

def test_an_interrupt_that_python_drops_stops_the_next_batch():
    "It comes while an object is freed, and Python only prints it"
    p = python(FREED)
    assert p.stdout.split()==['0','1','2','stopped'] and 'Exception ignored in' in p.stderr, p.stderr

class Boom(torch.nn.Module):
    def forward(self, x): return x*float('nan')

def test_diverged_seed_is_kept_and_said(tmp_path, cli, monkeypatch):
    from woofbench.models.parts import acts
    monkeypatch.setitem(acts, 'boom', Boom)
    rc,out,err = cli([*quick, '--seeds', '1', '--act', 'boom', '--out', str(tmp_path)])
    assert rc==0, err
    rec, = records(tmp_path)
    assert rec['runs'][0]['diverged'] is True and rec['runs'][0]['curve'][-1]['train_loss'] is None
    assert '1 diverged' in lines(tmp_path)[0]['status'] and '1 diverged' in out


# Data

def test_tiny_images_train_unranked(tiny, tmp_path, cli):
    rc,out,err = cli(f'{woof} --data {tiny} --out {tmp_path}')
    assert rc==0, err
    assert 'will be unranked' in out and 'imagewoof' in lines(tmp_path)[0]['status']

def test_workers_precision_and_memory_format(tiny, tmp_path, cli):
    rc,_,err = cli(f'{woof.replace("--workers 0", "--workers 2")} --data {tiny} --out {tmp_path} --precision bf16 '
                   '--channels-last')
    assert rc==0, err
    assert lines(tmp_path)[0]['precision']=='bf16'

def test_training_options(tiny, tmp_path, cli):
    "Each changes the result, and all that can go together do"
    base = f'run --dataset imagewoof --data {tiny} --arch xresnet10_tiny --size 64 --epochs 2 --seeds 1 --bs 8 --workers 0 --out {tmp_path}' # noqa: E501
    options = ('--mixup 0.4','--cutmix 1','--erase 0.5','--ema 0.5','--progressive 0.5','--centralize','--gamma-l2 0.1',
               '--opt radam','--opt lookahead','--beta 50','--smooth 0')
    for o in ('', *options, '--mixup 0.4 --ema 0.5 --progressive 0.5 --centralize --gamma-l2 0.1 --beta 50 --precision '
                            'bf16 --channels-last'):
        rc,_,err = cli(f'{base} {o}')
        assert rc==0, err
    recs = records(tmp_path)
    assert len({r['config_id'] for r in recs})==len(options)+2
    curves = {json.dumps([{k:v for k,v in o.items() if k[-2:]!='_s'} for o in r['runs'][0]['curve']]) for r in recs}
    assert len(curves)==len(recs)
    assert len({r['runs'][0]['init_sha256'] for r in recs})==1, 'all began with the same weights'

def test_editions_are_named():
    from woofbench.data.manifest import _edition
    from woofbench.data.track import datasets
    d = datasets['imagewoof']
    def names(n, m, of=d.classes[0]):
        return [f'train/{of}/{i}' for i in range(n)], [f'val/{of}/{i}' for i in range(m)]
    name,known = _edition(d, *names(12454, 500), '320')
    assert 'before December 2019' in name and not known
    name,known = _edition(d, *names(3010, 1310), '320')
    assert name.startswith('partial copy of imagewoof2-320') and not known
    name,known = _edition(d, *names(9025, 3929), '320') # the right number of other files
    assert name.startswith('unknown edition') and not known
    for n in (30, 500): # a folder of somebody's own
        name,known = _edition(d, *names(n, n, 'cat'), '320')
        assert name==f'unknown edition of imagewoof ({n} training and {n} validation images)' and not known

def test_noise_comes_from_the_csv(tiny, tmp_path, cli, refused):
    run = f'{woof} --data {tiny} --out {tmp_path}/out --noise 5'
    assert 'noisy_imagewoof.csv' in refused(run)
    paths = [f'train/{c}/{c}_train_{i}.JPEG' for c in 'abc' for i in range(8)]
    text = 'path,noisy_labels_0,noisy_labels_1,noisy_labels_5,noisy_labels_25,noisy_labels_50,is_valid\n' + ''.join(
            f'{p},{p[6]},{p[6]},{"b" if i<2 else p[6]},a,a,False\n' for i,p in enumerate(paths))
    (tiny/'noisy_imagewoof.csv').write_text(text)
    assert cli(run)[0]==0 and lines(tmp_path/'out')[0]['noise']=='5'
    from woofbench.data.loaders import noisy_labels
    from woofbench.data.manifest import verify
    assert noisy_labels(verify(tiny, 'imagewoof'), 'imagewoof', 5)==['b','b'] + ['a']*6 + ['b']*8 + ['c']*8

bad_noise = {'no column':b'path,x\ntrain/a/a_train_0.JPEG,a\n',
             'short line':b'path,noisy_labels_5\n'
             + b''.join(b'train/%c/%c_train_%d.JPEG\n'%(c,c,i) for c in b'abc' for i in range(8)),
             'not a class':b'path,noisy_labels_5\n'
             + b''.join(b'train/%c/%c_train_%d.JPEG,zebra\n'%(c,c,i) for c in b'abc' for i in range(8)),
             'binary':b'\xff\xfe\0'*99, 'huge field':b'"'+b'x'*200000}

@pytest.mark.parametrize('what', bad_noise)
def test_bad_noise_files_are_named(what, tiny, tmp_path, refused):
    (tiny/'noisy_imagewoof.csv').write_bytes(bad_noise[what])
    assert 'noisy_imagewoof.csv' in refused(f'{woof} --data {tiny} --out {tmp_path} --noise 5')

def test_unlabelled_images_are_never_read(tiny, tmp_path, cli):
    (tiny/'unsup').mkdir()
    (tiny/'unsup/broken.JPEG').write_bytes(b'not an image')
    (tiny/'unsup/a').mkdir()
    picture(tiny/'unsup/a/1.JPEG')
    rc,_,err = cli(f'{woof} --data {tiny} --out {tmp_path}'.replace('imagewoof', 'imagewang'))
    assert rc==0, err
    assert records(tmp_path)[0]['data']['n_train']==24

damage = {
    'no val':     (lambda o: shutil.rmtree(o/'val'), 'val'),
    'empty class':(lambda o: (o/'train/d').mkdir(), 'train/d'),
    'empty file': (lambda o: (o/'train/a/a_train_0.JPEG').write_bytes(b''), 'a_train_0.JPEG'),
    'cut short':  (lambda o: (o/'val/b/b_val_1.JPEG').write_bytes((o/'val/b/b_val_1.JPEG').read_bytes()[:-40]),
                   'b_val_1.JPEG'),
    'no image':   (lambda o: (o/'train/c/c_train_3.JPEG').write_bytes(b'<html>'), 'c_train_3.JPEG'),
    'dead link':  (lambda o: (o/'train/c/x.JPEG').symlink_to(o/'nowhere'), 'x.JPEG'),
    'odd name':   (lambda o: (o/'train/c/c_train_3.JPEG').rename(os.fsdecode(os.fsencode(o/'train/c') + b'/\xff.JPEG')),
                   'JPEG'),
    'other class':(lambda o: picture(o/'val/z/1.JPEG'), 'val'),
    'twins':      (lambda o: shutil.copy(o/'train/a/a_train_0.JPEG', o/'val/a/x.JPEG'), 'a_train_0.JPEG'),
}

@pytest.mark.parametrize('what', damage)
def test_damaged_dataset_is_named(what, tiny, tmp_path, refused):
    do,named = damage[what]
    do(tiny)
    assert named in refused(f'{woof} --data {tiny} --out {tmp_path}/out')

def test_cache_that_cannot_be_written(tmp_path, refused, monkeypatch):
    (tmp_path/'file').write_text('x')
    monkeypatch.setenv('WOOFBENCH_CACHE', str(tmp_path/'file'/'below'))
    assert 'below' in refused([*quick, '--out', str(tmp_path)])


@pytest.fixture
def server(tmp_path, monkeypatch):
    "A web server with an archive in place of fastai's imagewoof"
    from fastai.data.external import URLs, fastai_cfg
    monkeypatch.setenv('FASTAI_HOME', str(tmp_path/'fastai'))
    fastai_cfg.cache_clear()
    tiny_dataset(tmp_path/'src/imagewoof2-320')
    with tarfile.open(tmp_path/'imagewoof2-320.tgz', 'w:gz') as f:
        f.add(tmp_path/'src/imagewoof2-320', 'imagewoof2-320')
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=tmp_path)) as s:
        threading.Thread(target=s.serve_forever, daemon=True).start()
        monkeypatch.setattr(URLs, 'IMAGEWOOF_320', f'http://127.0.0.1:{s.server_port}/imagewoof2-320.tgz')
        yield tmp_path
        s.shutdown()
    fastai_cfg.cache_clear()

def test_download(server, cli):
    rc,_,err = cli(f'{woof} --out {server}/out')
    assert rc==0, err
    assert lines(server/'out')[0]['size']=='32' and (server/'fastai/data/imagewoof2-320/train').is_dir()

@pytest.mark.parametrize('how', ('missing','cut short'))
def test_failed_download_is_said(how, server, refused):
    o = server/'imagewoof2-320.tgz'
    if how=='missing': o.unlink()
    else: o.write_bytes(o.read_bytes()[:len(o.read_bytes())//2])
    assert '--data' in refused(f'{woof} --out {server}/out')


# Mistakes of every kind: one line, exit code 2

mistakes = '''--datset digits|did you mean --dataset
--dataset digit|did you mean digits
--recipe offical|did you mean official
--arch xresnet51|did you mean
--arch timm:resnet81|timm:resnet
--arch timm|timm
--act mishh|did you mean mish
--attn timm:ecaa|timm:eca
--opt rangerr|did you mean ranger
--sched flat|did you mean flat_cos
--set actt=mish|did you mean act
--set act|FIELD=VALUE
--set lr=.1 --lr .2|lr is given twice
--lr .2 --set lr=.1|lr is given twice
--size 0|size
--size 64.5|size
--size big|size
--epochs 0|epochs
--bs 0|bs
--bs 1.5|bs
--bs 2000|1437
--lr nan|lr
--lr 0|lr
--lr x|lr
--mom 1|mom
--sqr-mom 1|sqr_mom
--precision fp16|fp16
--seeds 0|seeds
--seeds 1,1|seeds
--seeds 1.5|seeds
--seeds 50 --epochs 101|at most 5000 epochs
--seeds None|seeds
--seeds x|seed
--workers -1|workers
--workers x|workers
--device foo|foo
--device meta|meta
--noise 5|noise
--source 320|320
--groups 3|groups
--depths 1,1|depths
--act mish,relu|2 values
--mixup .2 --cutmix 1|one of them
--progressive 0.5 --size 32|multiples of 32
--progressive 0.1|progressive
--ema 1|ema
--beta 5 --opt sgd|beta
--size 9 --pool max_blur --block reduce_first|9 px
--data /nonexistent|/nonexistent
--data ~nosuchuser/x|~nosuchuser'''.splitlines()

@pytest.mark.parametrize('line', mistakes)
def test_mistake_gets_one_line(line, refused, tmp_path):
    args,_,hint = line.rpartition('|')
    err = refused([*quick, '--seeds', '1', '--out', str(tmp_path), *args.split()])
    assert hint in err and len(err)<1000
    assert not (tmp_path/'records').exists()

def test_absurd_networks_are_refused_before_they_are_built():
    from woofbench.train.recipe import Recipe
    from woofbench.registry import BadInput
    for kw in (dict(depths=(10**8,1,1,1)), dict(widths=(10**8,)*4), dict(stem_szs=(10**8,)), dict(expansion=10**8)):
        with pytest.raises(BadInput): Recipe().but(**kw)

@pytest.mark.parametrize('error',
                         (MemoryError(), RuntimeError('CUDA out of memory. Tried to allocate 2 GiB'),
                          RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed.')),
                          ids='python cuda worker'.split())
def test_out_of_memory_says_what_to_lower(error, monkeypatch, tmp_path, refused):
    "Acted, as really using up the memory would hurt whatever else runs"
    from woofbench.train import learner as train
    def _f(*args, **kw): raise error
    monkeypatch.setattr(train, 'make_learner', _f)
    assert 'lower' in refused([*quick, '--seeds', '1', '--out', str(tmp_path)])

def test_cuda_where_there_is_none(refused, tmp_path):
    if torch.cuda.is_available(): pytest.skip('this machine has CUDA')
    assert 'cuda' in refused([*quick, '--device', 'cuda', '--out', str(tmp_path)])

def test_odd_sizes_train(tmp_path, cli):
    for size in (33,50):
        rc,_,err = cli([*quick, '--seeds', '1', '--bs', '512', '--out', str(tmp_path), '--size', str(size), '--pool',
                        'max_blur', '--block', 'reduce_first', '--sa', 'simple_sa'])
        assert rc==0, err


# Files that others have touched: named, left as they are, and the other rows stay

def test_output_that_cannot_be_written(tmp_path, refused):
    (tmp_path/'file').write_text('x')
    for out in (tmp_path/'file', tmp_path/'file/below', '/proc', '/dev/full'):
        assert 'cannot write' in refused([*quick, '--out', str(out)])

def test_board_of_a_folder_that_is_not_there(tmp_path, refused):
    assert 'nowhere' in refused(f'board --out {tmp_path}/nowhere')
    assert not (tmp_path/'nowhere').exists()

@pytest.mark.parametrize('text',
                         (lambda s: re.sub(r'0\.\d', '0.99', s, count=1), lambda s: s[:-90], lambda s: '\x00',
                          lambda s: s+'mine,1,2,3\n'), ids='edited cut binary added'.split())
def test_edited_board_is_left_alone(text, copy, cli, refused):
    path = copy/'leaderboard.csv'
    path.write_text(text(path.read_text()))
    old = path.read_bytes()
    assert 'leaderboard.csv' in refused(f'board --out {copy}') and path.read_bytes()==old
    assert 'do not follow from a record' in refused([*quick, '--seeds', '1', '--act', 'relu', '--bs', '512', '--out',
                                                     str(copy)])
    assert path.read_bytes()==old and len(records(copy))==1, 'it is said before training'
    assert cli(f'board --force --out {copy}')[0]==0 and len(lines(copy))==1
    assert (copy/'leaderboard.csv.bak').read_bytes()==old

bad_records = {'edited':lambda s: s.replace('"correct": ','"correct": 1',1), 'cut':lambda s: s[:len(s)//2],
               'empty':lambda s: '', 'list':lambda s: '[]', 'deep':lambda s: '['*200000,
               'nan':lambda s: s.replace('"noise": 0','"noise": NaN'), 'huge':lambda s: '9'*9999,
               'binary':lambda s: '\x00'}

@pytest.fixture(scope='module')
def two_rows(board, tmp_path_factory):
    "The board with a second row"
    out = shutil.copytree(board[0], tmp_path_factory.mktemp('two')/'board')
    from woofbench.commands.cli import main
    assert main([*quick, '--seeds', '1', '--act', 'relu', '--bs', '512', '--out', str(out)])==0
    return out

@pytest.mark.parametrize('what', bad_records)
def test_bad_record_is_named_and_left_alone(what, two_rows, tmp_path, refused):
    copy = shutil.copytree(two_rows, tmp_path/'copy')
    path = next(o for o in (copy/'records').rglob('*.json') if len(json.loads(o.read_text())['runs'])==2)
    path.write_text(bad_records[what](path.read_text()))
    old,board = path.read_bytes(),(copy/'leaderboard.csv').read_bytes()
    assert path.name in refused(f'board --out {copy}')
    assert path.read_bytes()==old and (copy/'leaderboard.csv').read_bytes()==board

junk = [None, True, -1, 10**400, 1e308, float('nan'), '', 'x', 'a\nb', '\ud800', '../../x', 'a'*5000, [], {}, [[]],
        [None], {'a':1}]

def places(o, at=()):
    yield at
    for k,v in o.items() if isinstance(o, dict) else list(enumerate(o))[:2] if isinstance(o, list) else []:
        yield from places(v, (*at, k))

def changed(o, at, v):
    if not at: return v
    o = o.copy()
    o[at[0]] = changed(o[at[0]], at[1:], v)
    return o

def test_no_record_can_break_the_board(board):
    "Every value of a record replaced by junk, with ids made to fit: it is refused in one line, or it makes a row"
    from woofbench.board.row import Row
    from woofbench.board.table import to_csv
    from woofbench.board.record.record import check_record, record_id
    from woofbench.registry import BadInput
    rec, = records(board[0])
    for at in places(rec):
        for v in junk:
            r = changed(rec, at, v)
            if at not in ((), ('record_id',)):
                try: r['record_id'] = record_id(r)
                except ValueError: pass
            try: check_record(r)
            except BadInput as e:
                assert len(str(e).splitlines())==1 and len(str(e))<1000, (at, v)
                continue
            row = Row(r)
            assert len(to_csv([row]).encode().splitlines())==2 and repr(row), (at, v)


# Real images, where they are

def _real():
    "An imagewoof of a complete known edition in folders, or the tars to make one from"
    spots = [Path(real_data)] if real_data else []
    for o in (*spots, *(p for s in spots for p in s.glob('imagewoof2*')), root.parent/'shared/data/imagewoof2-192'):
        if (o/'train').is_dir() or list(o.glob('*.tar')): return o

@pytest.fixture(scope='module')
def real(tmp_path_factory):
    found = _real()
    if not found: pytest.skip('no real images: neither $WOOFBENCH_DATA nor ../shared/data holds an imagewoof')
    if (found/'train').is_dir(): return found
    out = tmp_path_factory.mktemp('real')
    for o in sorted(found.glob('*.tar')):
        with tarfile.open(o) as f: f.extractall(out, filter='data')
    return next(o for o in (out, *out.iterdir()) if (o/'train').is_dir())

def test_real_edition_is_known(real):
    from woofbench.data.manifest import verify
    m = verify(real, 'imagewoof')
    assert m.known and m.edition==('imagewoof2' if m.source=='full' else f'imagewoof2-{m.source}')
    assert (len(m.train), len(m.val), len(m.classes))==(9025, 3929, 10)

def test_slice_of_real_images_trains(real, tmp_path, cli):
    for split,n in (('train',32), ('val',16)):
        for c in sorted((real/split).iterdir()):
            (tmp_path/'slice'/split/c.name).mkdir(parents=True)
            for o in sorted(c.iterdir())[:n]: (tmp_path/'slice'/split/c.name/o.name).symlink_to(o)
    rc,out,err = cli('run --dataset imagewoof --arch xresnet10_tiny --size 64 --epochs 1 --seeds 1 --bs 32 --workers '
                     f'2 --data {tmp_path}/slice --out {tmp_path}/out')
    assert rc==0, err
    assert 'partial copy of imagewoof2' in out and records(tmp_path/'out')[0]['data']['n_train']==320
