"A seed that is broken off continues, and gives what it would have given; edits outside of training cost no seed"
import copy, hashlib, io, json, os, pickle, shutil, subprocess, sys
from contextlib import suppress
from pathlib import Path
import pytest
import torch
from conftest import root
from woofbench import BadInput
from woofbench.board.record.provenance import training_files, training_sha
from woofbench.data.augment import augs
from woofbench.data.manifest import find, verify
from woofbench.data.track import make_track
from woofbench.train.job import Job
from woofbench.train.reuse import Reuse
from woofbench.train.learner import fit
from woofbench.train.machine import Machine
from woofbench.train.recipe import recipes
from woofbench.train.resume import NotTaken, Resume, Unkept, keep_every, read, read_state, write_state, written

small = dict(arch='xresnet10_tiny', widths=(8,16,32,64), bs=256)


class Stop(BaseException): "As Ctrl-C would be"

@pytest.fixture(scope='module')
def job_of():
    m = verify(find(make_track('digits')), 'digits')
    def job(size=16, **kw):
        return Job(make_track('digits', size=size, epochs=3), recipes('digits')().but(**small | kw), m)
    return job

def machine(engine, workers=0, resume=None):
    return Machine('cpu', workers, engine, states=resume and resume.as_states)

def numbers(r):
    return r.correct, r.preds, r.init_sha256, r.diverged, [(o['train_loss'], o['valid_loss'], o['correct'])
                                                           for o in r.curve]

def keeper(path, said=None, every=0, key='k'):
    return Resume(path, key, every, said.append if said is not None else lambda line: None)

def broken(job, engine, path, at, said=None, reuse=None, workers=0):
    "Train until epoch `at` is evaluated, then break off; what was logged"
    seen = []
    def stop(epoch, o):
        seen.append(o)
        if epoch==at: raise Stop
    with pytest.raises(Stop): fit(job, 1, machine(engine, workers, keeper(path, said)), stop, reuse)
    return seen

def again(job, engine, path, said=None, reuse=None, workers=0, **kw):
    torch.manual_seed(99) # as if the process were another one
    return fit(job, 1, machine(engine, workers, keeper(path, said, **kw)), None, reuse)


# Broken off in any epoch

cases = [('fast',{}),
         ('fast',dict(ema=.9, opt='lookahead', sched='one_cycle')),
         ('fast',dict(opt='torch:AdamW', average='tail', average_start=.5)),
         ('fast',dict(grad='accumulate', grad_batches=3, group='norm_bias', aug='mix'))]
more = [('fast',dict(mixup=.4, erase=.2, progressive=.5, size=64)),
        ('fastai',{}), ('fastai',dict(average='tail', average_start=.2)), ('fastai',dict(mixup=.4, erase=.2)),
        ('fastai',dict(opt='timm:lion')),
        ('fastai',dict(opt='ranger', ema=.9)), ('fast',dict(cutmix=.5, dropout=.2, aug='none')),
        ('fast',dict(opt='timm:lamb', sched='timm:cosine')),
        ('fast',dict(precision='bf16', channels_last=True, size=32)),
        ('fast',dict(sa='simple_sa', opt='rmsprop')), ('fastai',dict(aug='trivial', opt='sgd')),
        ('fast',dict(opt='torch:NAdam', group='norm_bias', gamma_l2=.1, centralize=True))]

def _same(job, engine, path, reuse=lambda: None, workers=0):
    said,whole = [],numbers(fit(job, 1, machine(engine, workers), reuse=reuse()))
    for at in (2, 3): broken(job, engine, path, at, said, reuse(), workers) # goes on, and is broken off once more
    assert numbers(again(job, engine, path, said, reuse(), workers))==whole
    assert [o.split(', ')[0] for o in said]==['goes on after epoch 1 of 3', 'goes on after epoch 2 of 3']

@pytest.mark.parametrize('engine,changes', cases, ids=str)
def test_a_broken_seed_gives_the_numbers_of_a_whole_one(job_of, tmp_path, engine, changes):
    _same(job_of(**changes), engine, tmp_path/'s')

@pytest.mark.slow
@pytest.mark.parametrize('engine,changes', more, ids=str)
def test_so_it_does_with_all_other_parts(job_of, tmp_path, engine, changes):
    _same(job_of(**changes), engine, tmp_path/'s')

@pytest.mark.parametrize('changes', (dict(mixup=.3), pytest.param(dict(precision='bf16', size=32),
                                                                      marks=pytest.mark.slow)), ids=str)
def test_a_captured_step_goes_on_with_its_plan(job_of, tmp_path, changes):
    "On a processor with the stand-in for a capture; also where the capture is an earlier seed's"
    job = job_of(**changes)
    _same(job, 'fast', tmp_path/'s', lambda: Reuse(capture=True))
    with Reuse(capture=True) as reuse:
        fit(job, 0, machine('fast'), reuse=reuse)
        rest = numbers(again(job, 'fast', tmp_path/'s', reuse=reuse))
    assert rest==numbers(fit(job, 1, machine('fast'), reuse=Reuse(capture=True)))

@pytest.mark.slow
def test_loader_processes_draw_what_they_would_have_drawn(job_of, tmp_path):
    _same(job_of(), 'fastai', tmp_path/'s', workers=1)

@pytest.mark.slow
def test_a_seed_goes_on_with_another_number_of_loader_processes(job_of, tmp_path):
    job = job_of(erase=.2)
    broken(job, 'fastai', tmp_path/'s', 2)
    assert numbers(again(job, 'fastai', tmp_path/'s', workers=2))==numbers(fit(job, 1, machine('fastai')))

def test_crops_drawn_ahead_are_drawn_again(job_of):
    "On a GPU the next epoch's crops are drawn before this one ends; what is kept is the generator before them"
    from woofbench.data.batches import FastData, load_images
    job = job_of()
    fd = FastData(load_images(job.manifest, job.track, torch.device('cpu')), job.recipe, job.track.size, seed=4)
    fd.draw()
    was = fd.to_keep()['generator']
    fd.next = fd._prefetch()
    kept = copy.deepcopy(fd.to_keep()['generator'])
    assert torch.equal(kept, was) and not torch.equal(kept, fd.generator.get_state())
    fd.take_back(dict(generator=kept))
    assert fd.next is None and not fd.drawn and torch.equal(fd.to_keep()['generator'], was)

def test_seconds_are_those_that_were_measured(job_of, tmp_path):
    seen = broken(job_of(), 'fast', tmp_path/'s', 3)
    r = again(job_of(), 'fast', tmp_path/'s')
    assert list(r.curve[:2])==seen[:2] and len(r.curve)==3

def test_only_long_seeds_are_kept(job_of, tmp_path, monkeypatch):
    monkeypatch.delenv('WOOFBENCH_KEEP_EVERY', raising=False)
    assert keep_every()==600
    fit(job_of(), 1, machine('fast', resume=keeper(tmp_path/'s', every=None)))
    assert not (tmp_path/'s').exists()
    now = iter(range(0, 10**6, 400)) # each look at the clock is 400 s after the last
    monkeypatch.setattr('woofbench.train.resume.time.monotonic', lambda: next(now))
    writes = []
    monkeypatch.setattr('woofbench.train.resume.write_state', lambda path, s: writes.append(s['epochs']))
    fit(job_of(), 1, machine('fast', resume=keeper(tmp_path/'s', every=None)))
    assert writes==[2]
    monkeypatch.setenv('WOOFBENCH_KEEP_EVERY', '-3')
    with pytest.raises(BadInput, match='must be seconds'): keep_every()


# Files that are not what they should be

class Evil:
    def __init__(self, path): self.path = path
    def __reduce__(self): return Path.touch, (self.path,)

def _bytes(o):
    f = io.BytesIO()
    torch.save(o, f)
    return f.getvalue() + hashlib.sha256(f.getvalue()).hexdigest().encode()

def _with(path, **kw): write_state(path, read_state(path) | kw)

def _flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw)//3] ^= 1
    path.write_bytes(raw)

def _less(path):
    s = read_state(path)
    del s['model']['params'][next(iter(s['model']['params']))]
    write_state(path, s)

faults = dict(flipped=(_flip, 'damaged'), short=(lambda p: p.write_bytes(p.read_bytes()[:-1000]), 'damaged'),
              empty=(lambda p: p.write_bytes(b''), ''),
              key=(lambda p: _with(p, key='other'), 'another run'),
              init=(lambda p: _with(p, init='0'), 'other weights'),
              version=(lambda p: _with(p, version=99), 'another run'),
              epochs=(lambda p: _with(p, epochs=7), 'longer training'), odd=(lambda p: _with(p, epochs='x'), 'epochs'),
              weights=(_less, 'another network'), cbs=(lambda p: _with(p, cbs=[]), 'callbacks are others'),
              list=(lambda p: write_state(p, [1]), ''), opt=(lambda p: _with(p, opt=dict(state={}, more=[])), ''),
              folder=(lambda p: (p.unlink(), p.mkdir()), 'not a regular file'),
              evil=(lambda p: p.write_bytes(_bytes(Evil(p.with_name('harm')))), ''))

@pytest.fixture(scope='module')
def kept_state(job_of, tmp_path_factory):
    path = tmp_path_factory.mktemp('state')/'s'
    broken(job_of(), 'fast', path, 2)
    return path, numbers(fit(job_of(), 1, machine('fast')))

@pytest.mark.parametrize('k', faults)
def test_a_file_that_does_not_fit_is_named_and_ignored(job_of, kept_state, tmp_path, k):
    path,said = tmp_path/'s',[]
    shutil.copy(kept_state[0], path)
    faults[k][0](path)
    r = again(job_of(), 'fast', path, said, every=600)
    assert numbers(r)==kept_state[1] and not (tmp_path/'harm').exists()
    assert len(said)==1 and f'{path} cannot be used: ' in said[0] and faults[k][1] in said[0]
    assert said[0].endswith('the seed starts again from epoch 1')

def test_another_configuration_does_not_take_it(job_of, kept_state, tmp_path):
    shutil.copy(kept_state[0], tmp_path/'s')
    job,said = job_of(opt='adam'),[] # the same network, and the same first weights
    assert numbers(again(job, 'fast', tmp_path/'s', said))==numbers(fit(job, 1, machine('fast')))
    assert 'cannot be used' in said[0]

def test_a_full_disk_stops_the_keeping_and_not_the_seed(job_of, kept_state, tmp_path):
    (tmp_path/'file').write_text('')
    said = []
    assert numbers(again(job_of(), 'fast', tmp_path/'file'/'s', said))==kept_state[1]
    assert len(said)==1 and 'no state is kept' in said[0]

def test_a_state_has_no_other_objects(kept_state):
    "So that it can be read with weights_only=True, and by no name of a class"
    found = set()
    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            found.add(f'{module}.{name}')
            return super().find_class(module, name)
        def persistent_load(self, pid): return torch.zeros(1).untyped_storage()
    import zipfile
    with zipfile.ZipFile(io.BytesIO(kept_state[0].read_bytes()[:-64])) as z:
        raw = z.read(next(o for o in z.namelist() if o.endswith('data.pkl')))
    with suppress(Exception): Reader(io.BytesIO(raw)).load() # its tensors are elsewhere
    assert found <= {'torch._utils._rebuild_tensor_v2', 'torch.FloatStorage', 'torch.LongStorage', 'torch.ByteStorage',
                     'torch.BoolStorage', 'torch.DoubleStorage', 'collections.OrderedDict'}, found


# Parts of yours

class Noise:
    "An augmentation with a generator and a counter of its own"
    def __init__(self): self.coin,self.n,self.scale = torch.Generator().manual_seed(1),0,[.1]
    def __call__(self, x, at):
        self.n += 1
        return x + self.scale[0]*self.n*torch.randn(x.shape, generator=self.coin)

def test_a_part_of_yours_goes_on_where_it_was(job_of, tmp_path):
    augs['own_noise'] = lambda r: Noise()
    try: _same(job_of(aug='own_noise'), 'fast', tmp_path/'s')
    finally: del augs['own_noise']

def test_what_cannot_be_written_is_named(job_of, tmp_path):
    class Odd(Noise):
        def __init__(self):
            super().__init__()
            self.thing = iter([1])
    augs['own_odd'],said = lambda r: Odd(),[]
    try:
        r = again(job_of(aug='own_odd'), 'fast', tmp_path/'s', said)
    finally: del augs['own_odd']
    assert len(r.curve)==3 and not (tmp_path/'s').exists()
    assert len(said)==1 and 'Odd.thing is an object of type list_iterator' in said[0]

def test_what_is_written_is_read():
    from collections import deque
    import numpy as np
    from fastcore.foundation import L
    o = dict(a=[1, 2.5, None, 'x', True], b=(1, (2,)), c=L(1, 2), d=deque([1, 2], 5), e={3, 4},
             f=np.arange(6, dtype='uint32').reshape(2, 3), g=torch.ones(2, dtype=torch.bfloat16))
    f = io.BytesIO()
    torch.save(written(o), f)
    f.seek(0)
    new = read(torch.load(f, weights_only=True))
    assert all(type(new[k]) is type(o[k]) for k in o) and new['d'].maxlen==5 and new['f'].dtype=='uint32'
    assert torch.equal(new.pop('g'), o.pop('g')) and (new.pop('f')==o.pop('f')).all() and new==o
    assert type(written(np.float64(.5))) is float
    for bad in ({1, (2,)}, {(1,2):3}, object(), np.array([None])):
        if bad!={1, (2,)}:
            with pytest.raises(Unkept): written(bad)
    with pytest.raises(NotTaken): read(written(torch.nn.Linear(1, 1)), None)


# Killed by the system

HELPER = '''
"Runs a row in child processes, which it kills; prints what it saw as JSON"
import io, json, os, random, signal, sys, time
from pathlib import Path
import torch
import woofbench.train.multi_seed, woofbench.train.resume as resume
from woofbench import run
os.environ['WOOFBENCH_KEEP_EVERY'] = '0'
out,n,engine,changes,seed = Path(sys.argv[1]),int(sys.argv[2]),sys.argv[3],json.loads(sys.argv[4]),int(sys.argv[5])
rng = random.Random(seed)

def child(board, half=False):
    pid = os.fork()
    if pid: return pid
    try:
        if half: resume.torch.save = half_saved
        with open(board.with_suffix('.log'), 'a', buffering=1) as f:
            run('digits', size=16, epochs=3, seeds=2, arch='xresnet10_tiny', widths=(8,16,32,64), bs=256, out=board,
                engine=engine, say=lambda line: f.write(line+'\\n'), **changes)
        os._exit(0)
    except BaseException as e:
        print('failed:', repr(e), file=sys.stderr, flush=True)
        os._exit(1)

save = torch.save
def half_saved(state, f):
    "As `torch.save`, but the process is killed in the middle of the second state"
    whole = io.BytesIO()
    save(state, whole)
    half = whole.getvalue()[:len(whole.getvalue())//2]
    if state['epochs']==1: return f.write(whole.getvalue())
    f.write(half)
    os.kill(os.getpid(), signal.SIGKILL)

def ended(pid): return os.waitpid(pid, os.WNOHANG)!=(0, 0)
def states(board): return {(o.name, o.stat().st_mtime_ns) for o in board.rglob('*.state')}
def results(board):
    rec = json.loads(next((board/'records').rglob('*.json')).read_text())
    return [(r['seed'], r['correct'], r['preds'], [(o['train_loss'], o['valid_loss']) for o in r['curve']])
            for r in rec['runs']], rec['env']['context']

(out/'whole').mkdir(parents=True)
t = time.monotonic()
assert os.waitpid(child(out/'whole'), 0)[1]==0
took,whole = time.monotonic()-t,results(out/'whole')
kills = rows = same = 0
i,status = 0,None
while kills<n or status!=0:
    board = out/f'row-{rows}'
    board.mkdir(exist_ok=True)
    pid = child(board, half=kills==0)
    if kills<n:
        at_state = kills%2 # every second kill comes when a state has been written, so the next start goes on
        t,wait = time.monotonic(),rng.uniform(0, 1.1*took) if kills and not at_state else 600
        status,before = None,states(board)
        while status is None and time.monotonic()-t<wait and not (at_state and states(board)-before):
            done,code = os.waitpid(pid, os.WNOHANG)
            if done: status = code
            time.sleep(.002)
        if status is None:
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
    else: status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), status
    if status==signal.SIGKILL: kills += 1
    else:
        same += results(board)==whole
        rows += 1
logs = ''.join(o.read_text() for o in out.glob('row-*.log'))
left = [o.name for o in out.rglob('*') if o.name.endswith(('.state','.tmp')) or o.name.startswith('seed-')]
print(json.dumps(dict(kills=kills, rows=rows, same=same, went_on=logs.count('goes on after epoch'), left=left,
                      refused=logs.count('cannot be used'), took=took)))
'''

def killed(tmp_path, engine, n, changes, seed=0):
    env = os.environ | dict(PYTHONPATH=str(root), OMP_NUM_THREADS='1')
    r = subprocess.run([sys.executable, '-c', HELPER, str(tmp_path/'boards'), str(n), engine, json.dumps(changes),
                        str(seed)], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=3000)
    assert r.returncode==0, r.stderr[-2000:]
    got = json.loads(r.stdout.splitlines()[-1])
    print(engine, changes, got)
    assert got['kills']==n and got['same']==got['rows']>=1 and not got['refused'] and not got['left']
    return got

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='takes fork and SIGKILL')
@pytest.mark.parametrize('engine,changes', (('fast',dict(mixup=.4)),
                                            ('fastai',dict(average='tail', average_start=.3))), ids=str)
@pytest.mark.slow
def test_a_killed_row_goes_on(tmp_path, engine, changes):
    "The first time in the middle of writing a state"
    assert killed(tmp_path, engine, 3, changes)['went_on']>=1

@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='takes fork and SIGKILL')
@pytest.mark.parametrize('engine', ('fast','fastai'))
@pytest.mark.parametrize('changes', (dict(mixup=.4, erase=.2, ema=.9), dict(opt='torch:AdamW')), ids=str)
def test_a_row_that_is_killed_15_times_goes_on(tmp_path, engine, changes):
    "Four times 15 kills: 30 for each engine"
    assert killed(tmp_path, engine, 15, changes, seed=1)['went_on']>=5


# Edits that cannot matter

@pytest.fixture
def package(tmp_path):
    shutil.copytree(root/'woofbench', tmp_path/'woofbench', ignore=shutil.ignore_patterns('__pycache__'))
    return tmp_path/'woofbench'

def _edit(path): path.write_text(path.read_text(encoding='utf-8')+'\n# a comment\n', encoding='utf-8')

counts = ('train/learner.py','train/resume.py','models/xresnet.py','models/__init__.py','tricks/mish.py',
          'data/loaders.py','fast/fused.py','fast/ranger_kernel.py','registry.py','files.py','text.py','progress.py')
free = ('board/row.py','board/record/schema.py','commands/run.py','commands/verbs.py','web/front.py','site/page.py',
        '__init__.py','__main__.py','_modidx.py')

def test_the_hash_of_training_covers_training_and_nothing_else(package):
    was = training_sha(package)
    assert was==training_sha()==training_sha(root/'woofbench')
    for k in free:
        _edit(package/k)
        assert training_sha(package)==was, k
    for k in counts:
        _edit(package/k)
        assert training_sha(package)!=was, k
        was = training_sha(package)
    (package/'tricks'/'another.py').write_text('')
    assert training_sha(package)!=was, 'a new file is registered by its folder'

def test_all_that_training_imports_is_in_it():
    "As the graph of imports has it, which is found in another way"
    from structure import module_graph
    graph,files = module_graph(root),{o.relative_to(root/'woofbench').with_suffix('').as_posix().replace('/', '.')
                                      for o in training_files(root/'woofbench')}
    folders = ('models.','tricks.','data.','fast.','train.')
    assert {o for o in graph if o.startswith(folders)} <= files
    assert not {to for k in files & graph.keys() for to in graph[k]} - files
    assert not [o for o in files if not o.startswith(folders) and '.' in o], 'no other sub-package'

TWO = '''
import json, sys
from pathlib import Path
import woofbench
from woofbench import run
root = Path(woofbench.__file__).parent
if not str(root).startswith(sys.argv[1]): sys.exit(f'{root} is not the copy')
said,stop = [],sys.argv[2]=='stop'
def say(line):
    said.append(line)
    if stop and line.startswith('seed 1'): raise KeyboardInterrupt
args = dict(size=16, epochs=1, seeds=2, arch='xresnet10_tiny', bs=256, out=sys.argv[1]+'/board', say=say)
from woofbench.train.imports import import_parts
if len(sys.argv)>3: import_parts(sys.argv[3])
try: rec = run('digits', **args).record
except KeyboardInterrupt: rec = None
print(json.dumps(dict(goes_on=any('continuing: 1 of 2' in o for o in said),
                      there=any('there already' in o for o in said),
                      code=rec and rec.code.source_sha256, context=rec and rec.env.context)))
'''

def _two(tmp_path, how, *more):
    env = os.environ | dict(PYTHONPATH=str(tmp_path), OMP_NUM_THREADS='1')
    r = subprocess.run([sys.executable, '-c', TWO, str(tmp_path), how, *more], env=env, cwd=tmp_path,
                       capture_output=True, text=True)
    assert r.returncode==0, r.stderr[-2000:]
    return json.loads(r.stdout.splitlines()[-1])

@pytest.mark.slow
def test_an_edited_page_costs_no_seed_and_an_edited_layer_does(package, tmp_path):
    from woofbench.files import source_sha
    _two(tmp_path, 'stop')
    for k in ('web/front.py','board/row.py'): _edit(package/k)
    now = source_sha({o.relative_to(package).as_posix():o.read_bytes() for o in package.rglob('*.py')})
    row = _two(tmp_path, 'end')
    assert row['goes_on'] and row['code']==now, 'the code is that of the version that finished it'
    _edit(package/'train'/'losses.py')
    other = _two(tmp_path, 'end')
    assert not other['goes_on'] and not other['there'] and other['context']!=row['context']

@pytest.mark.slow
def test_an_edited_file_of_yours_costs_its_seeds(package, tmp_path):
    own = tmp_path/'my_parts.py'
    own.write_text('FACTOR = 1\n')
    _two(tmp_path, 'stop', str(own))
    own.write_text('FACTOR = 2\n')
    assert not _two(tmp_path, 'stop', str(own))['goes_on']
    assert _two(tmp_path, 'end', str(own))['goes_on']
