"""Seeds side by side on a processor: the same evidence, one record, and nothing lost when something ends too early."""
import os, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
import pytest, torch
from woofbench.commands.prepare import plan
from woofbench.commands.run import run
from woofbench.registry import BadInput
from woofbench.train.machine import Machine, machine
from woofbench.train.multi_seed import train_seeds

small = dict(dataset='digits', size=16, epochs=1, arch='xresnet10_tiny', widths=(8,16,32,64), bs=128, device='cpu')

@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

def job_of(**kw):
    return plan(**{k:v for k,v in (small | kw).items() if k!='device'})

def numbers(r):
    "All of a seed but seconds and memory"
    return r.correct, r.preds, r.init_sha256, r.device, [{k:v for k,v in o.items() if k[-2:]!='_s'} for o in r.curve]

def ended(job, seeds, k, **kw):
    return {r.seed:numbers(r) for r in train_seeds(job, seeds, Machine('cpu', 0, seeds_at_once=k, **kw))}

@pytest.mark.slow
@pytest.mark.parametrize('change', [dict(engine='fastai'), dict(aug='rand')], ids=str)
def test_seeds_end_as_they_would_have_ended(change):
    "Also with tricks that draw from the generator of the process, which seeds in one process cannot have"
    how = {k:v for k,v in change.items() if k=='engine'}
    job = job_of(**{k:v for k,v in change.items() if k!='engine'})
    alone,beside = ended(job, [0,1,2], 1, **how),ended(job, [0,1,2], 2, **how)
    assert alone==beside and len({o[2] for o in alone.values()})==3

@pytest.mark.parametrize('have,k,each', [(8,2,4), (8,3,2), (2,4,1), (1,2,1)])
def test_each_seed_has_its_share_of_the_threads(have, k, each):
    "Whatever is left to train, so that a row that was stopped continues with the same number"
    torch.set_num_threads(have)
    assert (m := Machine('cpu', seeds_at_once=k)).threads==each and m.name.endswith(f'({each} threads)')
    assert Machine('cpu').threads==have

def test_seeds_and_threads_of_a_record(tmp_path):
    """Seeds end as they would have ended alone. Two threads for two seeds at once are one for each: the record says so,
    and has the context of a row that was trained with one thread, so seeds of both may go into one row"""
    alone = run(seeds=3, out=tmp_path/'alone', say=None, **small)
    torch.set_num_threads(2)
    said = []
    row = run(seeds=3, seeds_at_once=2, out=tmp_path/'beside', say=said.append, **small)
    assert [numbers(o) for o in row.runs]==[numbers(o) for o in alone.runs]
    assert len({o.init_sha256 for o in row.runs})==3
    assert 'engine fast: 2 seeds at once, each in a process with 1 thread' in said
    env = row.record['env']
    assert (env['threads'], env['seeds_at_once'], env['device'].endswith('(1 threads)'))==(1, 2, True)
    assert all(o.device==env['device'] for o in row.runs)
    assert alone.record['env']['context']==env['context']

    from woofbench.commands.estimate import estimate
    def like(board, threads, **kw):
        "Does a forecast take its time from the row of this board?"
        torch.set_num_threads(threads)
        return 'as row' in estimate(small | dict(seeds=5, out=str(tmp_path/board)) | kw).how
    assert like('alone', 1) and like('beside', 2, seeds_at_once=2)
    assert not like('alone', 2) and not like('beside', 1) and not like('alone', 2, seeds_at_once=2)

@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_run_and_the_rest_goes_on(tmp_path):
    "What was finished is kept, no process is left, and the same command trains only the missing seeds"
    code = ("from woofbench.commands.run import run\n"
            f"run(seeds=4, seeds_at_once=2, out={str(tmp_path)!r}, **{small | dict(epochs=6)!r})")
    p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    kept,until = tmp_path/'.woofbench',time.monotonic()+120
    while not any(kept.rglob('seed-?.json')) and time.monotonic()<until: time.sleep(.05)
    mine = subprocess.run(['pgrep', '-P', str(p.pid)], capture_output=True, text=True).stdout.split()
    assert len(mine)==2
    os.kill(int(mine[0]), signal.SIGKILL)
    out,err = p.communicate(timeout=60)
    assert p.returncode and 'was ended by SIGKILL' in err, err
    assert not any(Path(f'/proc/{o}').exists() for o in mine)
    done = {o.name:o.read_bytes() for o in kept.rglob('seed-?.json')}
    assert 1<=len(done)<4
    said = []
    row = run(seeds=4, seeds_at_once=2, out=tmp_path, say=said.append, **small | dict(epochs=6))
    assert f'continuing: {len(done)} of 4 seeds are done' in said and row.n==4

def test_a_seed_that_fails_ends_all(monkeypatch):
    "The reason is heard, and no process is left"
    def log(epoch, numbers, seed): raise ZeroDivisionError('on purpose')
    job = job_of(epochs=50)
    with pytest.raises(ZeroDivisionError):
        list(train_seeds(job, [0,1,2], Machine('cpu', 0, seeds_at_once=2), log=log))
    assert not subprocess.run(['pgrep', '-P', str(os.getpid()), '-f', 'train.processes'], capture_output=True).stdout

@pytest.mark.slow
def test_weights_are_kept(tmp_path):
    row = run(seeds=2, seeds_at_once=2, out=tmp_path, say=None, keep='weights', **small)
    assert len([*tmp_path.rglob('*.safetensors')])==2==row.n

@pytest.mark.slow
def test_images_of_your_own(tiny, tmp_path):
    row = run(str(tiny), seeds=2, seeds_at_once=2, out=tmp_path/'out', device='cpu', say=None, size=32, epochs=1, bs=4,
              arch='xresnet10_tiny')
    assert row.n==2 and row.record['env']['seeds_at_once']==2

def test_a_part_of_a_notebook_is_refused_by_name(tmp_path):
    from torch import nn
    from woofbench.models.parts import acts
    @acts.register('typed_apart')
    def typed_apart(): return nn.SiLU()
    with pytest.raises(BadInput, match='typed_apart was not imported from a file'):
        run(seeds=2, seeds_at_once=2, out=tmp_path, say=None, **small | dict(act='typed_apart'))

def test_other_devices_are_refused(monkeypatch):
    job = job_of()
    monkeypatch.setattr('woofbench.train.machine.working', torch.device)
    with pytest.raises(BadInput, match='seeds_at_once needs a processor'): machine(job.track, 'mps', seeds_at_once=2)

def test_a_forecast_counts_turns(tmp_path):
    "Five seeds, two at once, take as long as three, measured with the threads that each has"
    from woofbench.commands.estimate import estimate
    args = {k:v for k,v in small.items()} | dict(seeds=5, seeds_at_once=2)
    f = estimate(args)
    assert f.seconds==f.epoch_s*3 and '2 seeds at once' in str(f)
    assert replace(f, machine=Machine('cpu')).seconds==f.epoch_s*5
    assert torch.get_num_threads()==1
    logged = estimate(args | dict(log_to=['csv'], out=str(tmp_path)))
    assert logged.seconds==logged.epoch_s*5 and logged.machine.seeds_at_once==1

@pytest.mark.slow
def test_threads_that_a_file_changes_are_put_right(tmp_path, registries_stay):
    path = tmp_path/'many_threads.py'
    path.write_text('import torch\ntorch.set_num_threads(3)\n')
    from woofbench.train.imports import import_parts
    import_parts(path)
    torch.set_num_threads(1)
    r, = train_seeds(job_of(), [0], Machine('cpu', 0, seeds_at_once=2))
    assert r.device.endswith('(1 threads)')

def test_a_seed_that_ends_beside_a_failure_is_kept():
    "Its message may come just after that of the failure"
    from woofbench.train.processes import Team
    team,seen = Team(2, {}, 1),[]
    for o in ((0, 'failed', 'why'), (1, 'seed', 'a seed'), (0, 'end', 1), (1, 'end', 0)): team.box.put(o)
    with pytest.raises(RuntimeError, match='process 1 of 2 failed'):
        for kind,o in team.messages(): seen.append((kind, o))
    assert seen==[('seed', ['a seed'])]

def test_processes_on_the_same_cores_are_refused(monkeypatch):
    track = job_of().track
    for name,value in (('OMP_PROC_BIND','true'), ('GOMP_CPU_AFFINITY','0-3')):
        with monkeypatch.context() as m:
            m.setenv(name, value)
            with pytest.raises(BadInput, match=f'{name} binds all processes'): machine(track, 'cpu', seeds_at_once=2)
            machine(track, 'cpu')
    monkeypatch.setenv('OMP_PROC_BIND', 'false')
    machine(track, 'cpu', seeds_at_once=2)

def test_memory_is_that_of_all_seeds_at_once(monkeypatch):
    from woofbench.commands.prepare import check_memory
    monkeypatch.setattr('woofbench.commands.prepare.device_memory', lambda device: 50<<30)
    cost = dict(params=10**9)
    check_memory(cost, Machine('cpu', seeds_at_once=4), 2)
    with pytest.raises(BadInput, match='for 4 seeds at once'): check_memory(cost, Machine('cpu', seeds_at_once=4), 5)
