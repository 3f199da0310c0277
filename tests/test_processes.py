"Several processes train one seed: the numbers of one process, one row that says so, and an end where a process ends"
import json, os, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
import pytest
import torch
from conftest import root
from woofbench import BadInput, run
from woofbench.board.check import check_path
from woofbench.board.record.record import read_record
from woofbench.board.row import Row
from woofbench.board.table import load_rows
from woofbench.commands.prepare import plan
from woofbench.train.imports import import_parts
from woofbench.train.machine import Machine, machine
from woofbench.train.multi_seed import train_seeds
from woofbench.train.processes import Team, with_processes
from woofbench.train.resume import Resume
from woofbench.web.build import build
from woofbench.web.facts import from_rows
from warm import call

pytest.importorskip('accelerate')
small = dict(size=16, arch='xresnet10_tiny', widths=(8,16,32,64))
parts = '''
import json
from pathlib import Path
import torch
from fastai.callback.core import Callback
from torch import nn
from woofbench.models.parts import acts, norms

@norms.register('group4')
def group4(nf): return nn.GroupNorm(4, nf)

class Sometimes(nn.Module):
    "A layer that is skipped in about half of the steps"
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
    def forward(self, x): return torch.relu(x) if self.training and torch.rand(()) < .5 else torch.relu(x*self.scale)

@acts.register('sometimes')
def sometimes(): return Sometimes()

class Steps(Callback):
    "Writes the losses of all training steps; each process that has it adds a line"
    observes = True
    def __init__(self, path): self.path,self.seen = str(path),[]
    def after_batch(self):
        if self.training: self.seen.append(float(self.loss))
    def after_fit(self):
        with open(self.path, 'a') as f: f.write(json.dumps(self.seen)+'\\n')

class Double(Callback):
    "Trains in double precision, where rounding is out of sight"
    order = -50
    def before_fit(self): self.model.double()
    def before_batch(self): self.learn.xb = (self.x.double(),)
    def after_loss(self): self.learn.loss = self.loss.float()

class Fails(Callback):
    def after_step(self): raise ZeroDivisionError('on purpose')

class Drifts(Callback):
    "Changes weights in one process"
    def after_step(self):
        for p in self.model.parameters(): p.data.add_(1e-3*torch.distributed.get_rank())

class Prints(Callback):
    observes = True
    def after_epoch(self): print('epoch', self.epoch, 'is over')
'''

@pytest.fixture
def mine(tmp_path, registries_stay, monkeypatch):
    "The module of parts above, as `--import` brings it"
    (tmp_path/'team_parts.py').write_text(parts)
    import_parts(tmp_path/'team_parts.py')
    yield sys.modules['team_parts']
    del sys.modules['team_parts']

def job_of(epochs=1, **kw): return plan(**small | dict(epochs=epochs, bs=48) | kw)

def here(engine='fast', n=1, job=None, **kw):
    m = replace(machine(job.track, 'cpu', 0, engine), **kw)
    return with_processes(m, job, n)

def numbers(r): return r.correct, r.preds, r.init_sha256


# The numbers of one process

def same_steps(mine, tmp_path, engine, n, double=False, **kw):
    "Losses of the first 20 steps by one process and by `n`, and what each left"
    found = []
    for k in (1, n):
        path = tmp_path/f'steps-{k}'
        job = replace(job_of(norm='group4', **kw), cbs=(mine.Steps(path), *[mine.Double]*double))
        r, = train_seeds(job, [3], here(engine, k, job))
        line, = path.read_text().splitlines() # of one process
        found.append((json.loads(line), r))
    (a,one),(b,other) = found
    assert len(a)==len(b)>20 and b[:20]==pytest.approx(a[:20], rel=1e-5)
    assert numbers(one)==numbers(other) and one.device==other.device
    return one, other

@pytest.mark.slow
def test_the_reference_engine_gives_them_too(mine, tmp_path):
    same_steps(mine, tmp_path, 'fastai', 2, opt='sgd', lr=.05)

@pytest.mark.slow
def test_loader_processes_do_not_stop_it(tmp_path):
    "A forked loader closes the standard input, for which a thread of its parent waits"
    found = []
    for workers in (0, 1):
        words = (f'run --dataset digits --size 16 --epochs 1 --seeds 1 --engine fastai --processes 2 '
                 f'--workers {workers} --arch xresnet10_tiny --widths 8,16,32,64 --bs 48 --out {tmp_path/str(workers)}')
        p = call(['woofbench', *words.split()], timeout=300)
        assert not p.returncode, p.stderr[-2000:]
        (row,),_ = load_rows(tmp_path/str(workers))
        found.append([numbers(o) for o in row.record.runs])
    assert found[0]==found[1]

@pytest.mark.slow
@pytest.mark.parametrize('engine,n,kw', [
    ('fast', 2, dict(opt='sgd', lr=.05)), ('fast', 3, dict(bs=50)), ('fast', 2, dict(block='drop_path')),
    ('fast', 2, dict(mixup=.4, erase=.2, average='tail', average_start=.2)),
    ('fastai', 2, dict(opt='ranger', aug='trivial', erase=.2)),
    ('fastai', 2, dict(mixup=.4, ema=.9, grad='accumulate', grad_batches=3)),
    ('fast', 2, dict(opt='schedule_free', sched='warm_flat', double=True)),
    ('fast', 2, dict(cutmix=.5, grad='clip'))], ids=str)
def test_so_do_three_processes_and_other_recipes(mine, tmp_path, engine, n, kw):
    """3 processes do not divide a batch of 50. With schedule_free, rounding in single precision makes the
    losses differ by 0.0003 of their size after 18 steps"""
    same_steps(mine, tmp_path, engine, n, **kw)

@pytest.mark.slow
def test_batch_norm_has_the_statistics_of_each_part():
    one,two = (next(train_seeds(job_of(), [3], here('fast', n, job_of()))) for n in (1, 2))
    assert one.init_sha256==two.init_sha256 and one.curve[0]['train_loss']!=two.curve[0]['train_loss']

@pytest.mark.slow
def test_dropout_draws_in_each_process(mine, tmp_path):
    "Other numbers than in one process, the same each time"
    job = job_of(norm='group4', dropout=.5)
    one, = train_seeds(job, [3], here('fast', 1, job))
    two,again = (next(train_seeds(job, [3], here('fast', 2, job))) for _ in range(2))
    assert two.curve[0]['train_loss']==again.curve[0]['train_loss']!=one.curve[0]['train_loss']
    assert two.curve[0]['train_loss']==pytest.approx(one.curve[0]['train_loss'], rel=.1)


@pytest.mark.slow
def test_a_layer_that_is_skipped_at_random_trains(mine):
    "Processes skip other layers in one step, and none waits for the gradients of another"
    job = job_of(norm='group4', act='sometimes')
    two, = train_seeds(job, [3], here('fast', 2, job))
    assert two.curve[0]['train_loss']<3 and two.correct>0

alone = """
import os, sys, tempfile, torch.distributed as dist
from pathlib import Path
from woofbench import plan
from woofbench.train.learner import fit
from woofbench.train.machine import Machine
from woofbench.train.shared_batches import SharedBatches
os.environ |= dict(RANK='0', LOCAL_RANK='0', WORLD_SIZE='1', LOCAL_WORLD_SIZE='1')
dist.init_process_group('gloo', store=dist.FileStore(str(Path(tempfile.mkdtemp())/'s'), 1), rank=0, world_size=1)
job = plan(size=16, arch='xresnet10_tiny', widths=(8,16,32,64), epochs=1, bs=256)
print(fit(job, 0, Machine('cpu'), watch=lambda seed: [SharedBatches(seed, True)]).correct)
"""

@pytest.mark.slow
def test_a_process_prints_no_warning():
    p = subprocess.run([sys.executable, '-c', alone], capture_output=True, text=True, timeout=300)
    assert p.returncode==0 and p.stdout.strip().isdigit(), p.stderr
    assert 'find_unused_parameters' not in p.stderr and 'Warning' not in p.stderr


# The row says so

def test_two_processes_give_the_losses_of_one_and_a_row_that_says_so(mine, tmp_path):
    said,what = [],small | dict(epochs=1, bs=48, norm='group4', opt='ranger', aug='mix', ema=.9, device='cpu')
    def trained(k):
        "A row by `k` processes, and the losses of its steps"
        path = tmp_path/f'steps-{k}'
        row = run(seeds=1, processes=k, out=tmp_path, say=said.append, cbs=[mine.Steps(path)], **what)
        line, = path.read_text().splitlines() # of one process
        return row, json.loads(line)
    (row,b),(one,a) = map(trained, (2,1))
    assert len(a)==len(b)>20 and b[:20]==pytest.approx(a[:20], rel=1e-5)
    assert numbers(row.runs[0])==numbers(one.runs[0])
    assert row.record.processes==2 and read_record(row.path)==row.record
    why = '2 processes trained each seed, and may give another accuracy than one'
    assert why in row.status and row.status.startswith('unranked: ') and row.status in row.line()['status']
    assert any('2 processes train each seed; the row will be unranked' in o for o in said)
    assert any('2 processes (gloo), each with its part of every batch' in o for o in said)
    assert sorted(why in str(v) for _,v in check_path(tmp_path).items if 'valid' in v.word)==[False, True]
    page = build(from_rows([row], []))[f'rows/{row.id}.html'].decode()
    assert why in page and '<dt>Processes of a seed</dt><dd>2</dd>' in page
    assert one.id!=row.id and one.record.processes==1 and 'processes' not in one.status
    assert one.record.env['context']!=row.record.env['context'] and ('processes', 2, 1) in row.differs_from(one)
    again = run(seeds=1, processes=2, out=tmp_path, say=None, cbs=[mine.Steps('nowhere')], **what)
    assert again.id==row.id # it was there

def test_records_that_are_there_have_one_process():
    from woofbench.board.record.record import read_records
    recs = read_records(root)[0]
    assert recs and all(o.processes==1 for o in recs)
    assert not any('processes' in Row(o).status for o in recs)


# A process that dies

@pytest.fixture
def team(monkeypatch):
    "The processes that were started"
    found,start = [],Team._start
    def _start(self, rank):
        start(self, rank)
        found.append(self.processes[-1])
    monkeypatch.setattr(Team, '_start', _start)
    return found

@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_the_seed_goes_on(mine, tmp_path, team):
    job,said = job_of(2, norm='group4'),[]
    states = lambda seed: Resume(tmp_path/'state', 'k', 0, said.append)
    def kill(epoch, o, seed):
        if epoch==1: os.kill(team[1].pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(BadInput, match='process 2 of 2 was ended by SIGKILL.*run the same command again'):
        list(train_seeds(job, [3], here('fast', 2, job, states=states), log=kill))
    assert all(p.poll() is not None for p in team) and time.monotonic()-began<300
    r, = train_seeds(job, [3], here('fast', 2, job, states=states))
    assert [o.split(', ')[0] for o in said]==['goes on after epoch 1 of 2']
    one, = train_seeds(job, [3], here('fast', 1, job))
    assert numbers(r)==numbers(one) and len(r.curve)==2

@pytest.mark.skipif(sys.platform!='linux', reason='reads /proc')
@pytest.mark.slow
def test_a_killed_program_leaves_no_process():
    "Its processes end when the pipe from it closes"
    code = """
from test_processes import here, job_of
from woofbench.train.multi_seed import train_seeds
from woofbench.train.processes import Team
start = Team._start
def _start(self, rank):
    start(self, rank)
    print(self.processes[-1].pid, flush=True)
Team._start = _start
job = job_of(50)
list(train_seeds(job, [0], here('fast', 2, job), log=lambda *o: print('epoch', flush=True)))
"""
    p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True, cwd=root/'tests')
    pids = [int(p.stdout.readline()) for _ in range(2)]
    assert p.stdout.readline()=='epoch\n'
    p.kill()
    p.wait()
    until = time.monotonic()+30
    while any(map(alive, pids)) and time.monotonic()<until: time.sleep(.1)
    assert not any(map(alive, pids))

def alive(pid):
    "Is it there, and not only waiting to be forgotten?"
    try: return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]!='Z'
    except OSError: return False

@pytest.mark.slow
def test_an_interrupted_run_leaves_no_process(team):
    def stop(*o): raise KeyboardInterrupt
    job = job_of(5)
    with pytest.raises(KeyboardInterrupt): list(train_seeds(job, [0], here('fast', 2, job), log=stop))
    assert len(team)==2 and all(p.poll() is not None for p in team)

@pytest.mark.slow
@pytest.mark.parametrize('name,error,text', [('Fails', RuntimeError, 'of 2 failed:\n.*ZeroDivisionError.*on purpose'),
                                             ('Drifts', BadInput, 'ended with different weights')])
def test_what_fails_in_a_process_is_told(mine, name, error, text):
    job = replace(job_of(), cbs=(getattr(mine, name),))
    with pytest.raises(error, match=f'(?s){text}'): list(train_seeds(job, [0], here('fast', 2, job)))

@pytest.mark.slow
def test_the_first_process_alone_writes_and_prints(mine, tmp_path, capsys):
    run(seeds=1, processes=2, out=tmp_path, device='cpu', say=None, log_to='csv', cbs=[mine.Prints], epochs=1, bs=48,
        keep='weights', **small)
    assert capsys.readouterr().out=='epoch 0 is over\n'
    assert len([*(tmp_path/'.woofbench'/'logs').rglob('*.csv')])==1
    assert len([*tmp_path.rglob('*.safetensors')])==1

@pytest.mark.slow
def test_images_of_your_own(tiny, tmp_path):
    row = run(str(tiny), seeds=2, processes=2, out=tmp_path/'out', device='cpu', say=None, size=32, epochs=1, bs=4,
              arch='xresnet10_tiny')
    assert row.n==2 and row.record.processes==2


# What cannot work is refused by name

@pytest.mark.parametrize('flags,text', [
    ('--processes 0', 'processes must be'), ('--processes x', 'processes'),
    ('--bs 32 --processes 33', 'processes=33 is more than the 32 images of a batch'),
    ('--compile --processes 2', 'compile works in one process'),
    ('--seeds-at-once 2 --processes 2', 'use one of the two')])
def test_wrong_numbers_are_refused(refused, tmp_path, monkeypatch, flags, text):
    monkeypatch.setattr('woofbench.train.machine._compiles', lambda device: None)
    assert text in refused(f'run --dataset digits --device cpu {flags} --out {tmp_path}')

def test_too_few_gpus_and_other_devices_are_refused(monkeypatch):
    job = job_of()
    for have,said in ((0, 'there are 0'), (1, 'there is 1')):
        monkeypatch.setattr(torch.cuda, 'device_count', lambda have=have: have)
        with pytest.raises(BadInput, match=f'processes=2 needs 2 GPUs, one for each, and {said}'):
            with_processes(Machine('cuda', 0, 'fastai'), job, 2)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    with pytest.raises(BadInput, match='takes the first 2 GPUs: write device=cuda'):
        with_processes(Machine('cuda:1', 0, 'fastai'), job, 2)
    with pytest.raises(BadInput, match='seeds_at_once=3 trains several seeds, and processes=2 trains one'):
        with_processes(Machine('cuda', 0, 'fast', 3), job, 2)

def test_without_accelerate_the_extra_is_named(monkeypatch):
    job = job_of()
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(BadInput, match=r'pip install "woofbench\[distributed\]"'): here('fast', 2, job)

def test_parts_and_callbacks_that_others_cannot_have(mine, tmp_path):
    from torch import nn
    from woofbench.models.parts import acts
    @acts.register('typed_act')
    def typed_act(): return nn.SiLU()
    def go(**kw):
        run(seeds=1, processes=2, out=tmp_path/'out', device='cpu', say=None, epochs=1, bs=48, **small | kw)
    with pytest.raises(BadInput, match='act typed_act was not imported from a file.*--import FILE'): go(act='typed_act')
    with pytest.raises(BadInput, match='cbs: .* cannot be sent to another process'): go(cbs=[lambda: mine.Fails()])
    assert not (tmp_path/'out'/'records').exists()


@pytest.mark.slow
def test_digits_have_as_many_right_with_two_processes(capsys):
    "With batch norm, over ten seeds: the mean of the differences is within three standard errors, or one image"
    from statistics import mean, stdev
    job,seeds = job_of(3, size=32, bs=64),list(range(10))
    one,two = ([r.correct for r in train_seeds(job, seeds, here('fast', k, job))] for k in (1, 2))
    diff = [b-a for a,b in zip(one, two)]
    with capsys.disabled(): print(f'\n1 process {one}\n2 processes {two}')
    assert abs(mean(diff))<=max(3*stdev(diff)/len(diff)**.5, 1)
