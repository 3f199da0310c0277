"""`sweep`: the rows of `run`, on many processes and machines, through kills and full disks"""
import json, os, random, subprocess, sys
from pathlib import Path
import pytest
from conftest import root
from woofbench.board.trials import begun, count_begun
from woofbench.commands.sweep import Budget, Driver, estimate_plan, folder_of, read_status, sweep
from woofbench.commands.sweep_plan import read_plan
from woofbench.commands.workers import Failed, Local, do, outcome
from woofbench.registry import BadInput

sys.path.insert(0, str(root))
from benchmarks import sweep_faults as faults  # noqa: E402

digits = [dict(dataset='digits', size=16, epochs=1)]
small = dict(recipe='digits+arch=xresnet10_tiny+bs=128', changes=['act=relu'], seeds=2, machine=dict(device='cpu'),
             tracks=digits)


# Plans

@pytest.mark.parametrize('given,said', [
    (dict(chnges=['act=mish']), "unknown key 'chnges' in the plan; did you mean changes or machine?"),
    (dict(tracks=[dict(dataset='digits', epoch=3)]), "unknown key 'epoch' in track 1; did you mean epochs?"),
    (dict(machine=dict(divice='cpu')), 'did you mean device?'),
    (dict(tracks=[]), 'the plan has no track'),
    (dict(tracks=digits*2), 'track 2 is the same as track 1'),
    (dict(official=True, seeds=3), 'official rows have five seeds'),
    (dict(seeds=[1, 1]), 'seeds must be different'),
    (dict(changes=['act=mish', 'act=mish']), "changes has 'act=mish' twice"),
    (dict(product=dict(lr=.1)), 'give lr a list of values'),
    (dict(base=False), 'the plan has no recipe')])
def test_a_wrong_plan_gives_one_sentence(given, said):
    with pytest.raises(BadInput) as e: read_plan(dict(tracks=digits) | given)
    assert said in str(e.value) and '\n' not in str(e.value)

def test_every_row_gets_a_seed_before_any_gets_the_next():
    plan = read_plan(dict(changes=['act=mish'], product=dict(lr=[.1, .2], mixup=[0, .2]), seeds=3,
                          tracks=[*digits, dict(dataset='digits', size=32)]))
    assert plan.runs==len(plan.tasks)==2*6*3
    assert [s for _,s in plan.tasks]==sorted(s for _,s in plan.tasks)
    assert [r for r,_ in plan.tasks[:12]]==list(range(12))

def test_a_plan_in_a_file(tmp_path):
    (tmp_path/'my_act.py').write_text('x = 1')
    path = tmp_path/'plan.toml'
    path.write_text('changes = ["act=mish"]\nimport = ["my_act.py"]\n[[tracks]]\ndataset = "digits"\n')
    plan = read_plan(path)
    assert plan.imports==(str(tmp_path/'my_act.py'),) and plan.changes==('','act=mish')
    key = plan.key
    (tmp_path/'my_act.py').write_text('x = 2')
    assert read_plan(path).key!=key
    path.write_text('changes = [')
    with pytest.raises(BadInput): read_plan(path)


# The driver, with tasks that sleep

def driver(out, executor, **kw):
    d = Driver(read_plan(faults.SLEEPY | kw.pop('plan', {})), executor, out, tasks=faults.TASKS, **kw)
    d.folder.mkdir(parents=True, exist_ok=True)
    d.look()
    d.begin()
    d.go()
    return d

class InTurn:
    "An executor that does each task at once, in this process"
    size,kind = 1,'this process'
    def __init__(self): self.started,self.got = [],[]
    @property
    def free_workers(self): return not self.got
    def start(self, key, fn, args):
        self.started.append(key)
        self.got.append((key, outcome(do(fn, args))))
    def finished(self, timeout):
        got,self.got = self.got,[]
        return got

@pytest.fixture(scope='module')
def executor():
    e = Local(2, threads=1)
    yield e
    e.stop()

def test_a_budget_of_seeds_stops_and_the_next_call_goes_on(executor, tmp_path):
    d = driver(tmp_path, executor, budget=Budget('3 seeds'))
    assert (d.status(True)['done'], d.why)==(3, 'the budget of 3 seeds is spent')
    assert read_status(d.folder)['state'].startswith('stopped: the budget')
    d = driver(tmp_path, executor)
    assert d.status(True)['state']=='done' and not faults.wrong(tmp_path, False)

def test_recipes_that_cannot_win_are_dropped(executor, tmp_path):
    "Seeds differ by a tenth of a point, recipes by many points: the best one alone gets all seeds"
    d = driver(tmp_path, executor, adaptive=True, plan=dict(seeds=5))
    best = max(d.rows, key=lambda o: o.mean)
    assert best.record and not best.dropped and sum(o.dropped for o in d.rows)==3
    assert all(2<=len(o.acc)<5 for o in d.rows if o.dropped)
    assert d.status(True)['dropped']==3

def test_what_was_dropped_stays_dropped(tmp_path, monkeypatch):
    "The same command again trains nothing, also where the status was lost in between"
    monkeypatch.setenv('SLEEP', '0')
    one = InTurn()
    first = driver(tmp_path, one, adaptive=True, plan=dict(seeds=5))
    assert first.status(True)['dropped']==3
    def seeds(): return sum(key[0]=='seed' for key in one.started)
    n = seeds()
    for lost in (False, True):
        if lost: (first.folder/'status.json').unlink()
        again = driver(tmp_path, one, adaptive=True, plan=dict(seeds=5))
        assert [o.dropped for o in again.rows]==[o.dropped for o in first.rows] and seeds()==n
        assert again.status(True)['state']=='done'
    assert driver(tmp_path, one, plan=dict(seeds=5)).status(True)['dropped']==0 and seeds()==20

def test_the_last_seed_of_a_row_can_drop_other_recipes(tmp_path):
    d = Driver(read_plan(faults.SLEEPY | dict(seeds=3)), InTurn(), tmp_path, adaptive=True)
    for i,o in enumerate(d.rows):
        o.take(dict(seeds=[0, 1, 2], record=None, done=[], kept=[[s, (.5 if i else .9)+s/1000] for s in (0, 1)],
                    label=str(i), track='sleep', cell='sleep', config_id=str(i), context=''))
    d.active['seed', 0, 2] = 0.
    d.take(('seed', 0, 2), dict(acc=.9, seconds=1.))
    assert [o.dropped for o in d.rows]==[False, True, True, True] and list(d.ready)==[0]

def test_a_dry_run_checks_every_row_and_says_which_one_is_wrong(tiny, tmp_path, monkeypatch):
    "Also one that is not among the twelve that are timed; a refusal is the same in the dry run and in the sweep"
    for name,f in dict(_measured=lambda *args: (2., 'guessed'), act_memory=lambda *args: 0).items():
        monkeypatch.setattr(f'woofbench.commands.estimate.{name}', f)
    out,other = tmp_path/'new',tmp_path/'other'
    def planned(*changes):
        return read_plan(small | dict(recipe='digits+arch=xresnet10_tiny+bs=8', changes=changes,
                                      tracks=[dict(dataset=str(tiny), size=32, epochs=1)]))
    cost = estimate_plan(planned('act=relu'), InTurn(), out)
    assert (cost.runs, cost.hours)==(4, 4*2/3600) and cost.how=='from 2 of 2 rows: guessed'
    good = [f'lr=0.{o}' for o in range(11, 23)]
    for changes,why in (([*good[:5], 'lr=0.3+bs=64', *good[5:]], 'lr=0.3.bs=64: bs 64 is larger than'),
                        (['lr=0.11', 'bs=8+lr=0.11'], 'bs=8.lr=0.11 is the same recipe as lr=0.11')):
        plan = planned(*changes)
        with pytest.raises(BadInput, match=why) as e: estimate_plan(plan, InTurn(), out)
        d = Driver(plan, InTurn(), other)
        d.folder.mkdir(parents=True)
        with pytest.raises(BadInput) as same: d.look()
        assert str(same.value)==str(e.value)
    assert not out.exists()

def test_an_adaptive_sweep_refuses_official_seeds(tmp_path):
    with pytest.raises(BadInput, match='exploration seeds only'):
        sweep(dict(official=True, tracks=digits), adaptive=True, out=tmp_path)

def test_a_second_driver_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv('SLEEP', '3')
    p = faults.start(tmp_path, False)
    folder = folder_of(read_plan(faults.SLEEPY), tmp_path)
    try:
        while not (folder/'status.json').exists(): assert p.poll() is None
        with pytest.raises(BadInput, match=f'another command works on this plan .process {p.pid}'):
            faults.drive(tmp_path, False)
        assert read_status(folder)['state']=='running'
    finally:
        p.kill()
        p.wait()
    assert read_status(folder)['state']=='stopped' # the lock has gone with its process

def test_a_machine_with_a_full_disk_gets_no_more_tasks(tmp_path):
    "Two machines; the disk of one of them is full"
    class Two:
        "An executor of two machines that does tasks at once, in turns"
        free_workers,size,kind = 1,2,'two machines'
        def __init__(self): self.left,self.got,self.turn = set(),[],0
        def start(self, key, fn, args):
            self.turn += 1
            full = 'B' not in self.left and self.turn%2 and key[0]=='seed'
            value = Failed('node', 'cannot write the seed: No space left on device', 'B') if full else \
                getattr(faults, fn.partition(':')[2])(args)
            self.got.append((key, value))
        def finished(self, timeout):
            got,self.got = self.got,[]
            return got
        def leave(self, name): self.left.add(name)
    said,two = [],Two()
    driver(tmp_path, two, say=said.append)
    assert two.left=={'B'} and not faults.wrong(tmp_path, False)
    assert 'B gets no more tasks: cannot write the seed: No space left on device' in said

def test_a_task_that_always_loses_its_worker_is_left_out(executor, tmp_path, monkeypatch):
    monkeypatch.setitem(faults.TASKS, 'seed', 'benchmarks.sweep_faults:die')
    d = driver(tmp_path, executor, plan=dict(changes=['act=relu'], base=False, seeds=1))
    assert 'is there enough memory?' in d.rows[0].why and d.status(True)['failed']==1


# Faults: the same trials, 30 times each, are in `benchmarks/sweep_faults.py`

@pytest.mark.parametrize('kind', ('worker','driver'))
def test_sleeping_tasks_survive_kills(kind): assert faults.trials(kind, 3, seed=1)==[[]]*3

@pytest.mark.slow
@pytest.mark.parametrize('n', range(30))
@pytest.mark.parametrize('kind', ('worker','driver'))
def test_training_survives_kills(kind, n, tmp_path):
    "Nothing is trained twice, nothing is lost, and the board has the numbers of an undisturbed run"
    rng = random.Random(n)
    assert not (faults.kill_driver if kind=='driver' else faults.kill_worker)(tmp_path, rng, True)
    assert numbers(tmp_path)==EXPECTED(tmp_path)

@pytest.mark.slow
def test_a_machine_of_a_cluster_dies_30_times():
    pytest.importorskip('ray')
    assert faults.trials('node', 30)==[[]]*30


# The rows of `run`

def numbers(out):
    "What records say, without times"
    from woofbench.board.record.record import read_records
    recs,bad = read_records(out)
    assert not bad
    def run(r): return r['seed'], r['correct'], r['preds'], r['init_sha256'], [(o['train_loss'], o['valid_loss'],
                                                                               o['correct']) for o in r['curve']]
    free = {'record_id','created','runs','attempts'} # which of two rows came first is chance
    return sorted([json.dumps({k:v for k,v in o.items() if k not in free}, sort_keys=True, default=vars),
                   [run(r) for r in o['runs']]] for o in map(plain, recs))

def plain(rec):
    from woofbench.board.record.strict import plain
    return plain(rec)

_expected = {}
def EXPECTED(tmp_path):
    "The board of `woofbench run`"
    from woofbench.commands.run import run
    if not _expected:
        for kw in ({}, dict(act='relu')):
            run(size=16, epochs=1, arch='xresnet10_tiny', bs=128, seeds=2, device='cpu', out=tmp_path/'run', say=None,
                **kw)
        _expected['board'] = numbers(tmp_path/'run')
    return _expected['board']

def shell(out, *more, plan=small, **env):
    "A sweep in a process of its own; whether it imported PyTorch is in the last line"
    code = ('import sys\nfrom woofbench import sweep\nfrom woofbench.registry import BadInput\n'
            f'try: sweep({plan!r}, workers=2, out={str(out)!r})\n'
            'except BadInput as e: print("woofbench:", e)\n'
            'print("torch" in sys.modules)')
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=580, cwd=root,
                          env=os.environ | env).stdout.splitlines()

def test_records_equal_those_of_run(tmp_path):
    "All but times and ids, from a script that has no `if __name__=='__main__'`; the driver never imports PyTorch"
    from woofbench.board.record.record import read_records
    from woofbench.commands.run import run
    from woofbench.data.track import Track
    said = shell(tmp_path/'sweep')
    assert said[-1]=='False', said
    want = EXPECTED(tmp_path)
    got = numbers(tmp_path/'sweep')
    assert got==want and len(got)==2
    assert sorted(o['attempts'] for o in read_records(tmp_path/'sweep')[0])==[1, 2]
    track = Track('digits', 16, 1, '32')
    count_begun(tmp_path/'sweep', track, '0123456789abcdef') # by an adaptive sweep that dropped it
    assert begun(tmp_path/'sweep', track)=={'0123456789abcdef'}
    row = run(size=16, epochs=1, arch='xresnet10_tiny', bs=128, lr=.005, seeds=1, device='cpu', out=tmp_path/'sweep',
              say=None)
    assert row.record['attempts']==4

full = """
import errno, os
import woofbench.commands.seed_folder as folder, woofbench.data.store as store
write,build = folder.write_atomic,store._build
def _write(path, data):
    if os.environ.get('FULL') and path.name=='seed-1.json': raise OSError(errno.ENOSPC, 'No space left on device')
    write(path, data)
def _build(path, *more):
    with open(os.environ['BUILDS'], 'a') as f: f.write(f'{path.name}\\n')
    build(path, *more)
folder.write_atomic,store._build = _write,_build
"""

@pytest.mark.slow
def test_a_full_disk_stops_with_a_sentence_and_images_are_decoded_once(tmp_path):
    "Two workers on one machine, an empty cache; then there is more space"
    (tmp_path/'full.py').write_text(full)
    plan = small | {'import':[str(tmp_path/'full.py')]}
    env = dict(BUILDS=str(tmp_path/'builds'), WOOFBENCH_CACHE=str(tmp_path/'cache'))
    said = shell(tmp_path/'out', plan=plan, FULL='1', **env)
    assert any('gets no more tasks: cannot write' in o and 'No space left on device' in o for o in said), said
    assert any('stopped: no machine is left' in o for o in said)
    builds = (tmp_path/'builds').read_text().split()
    assert len(builds)==len(set(builds))==2 # training and validation images
    said = shell(tmp_path/'out', plan=plan, **env)
    assert any('continuing: 2 seeds are done' in o for o in said), said
    assert len(list((tmp_path/'out'/'records').rglob('*.json')))==2

def test_the_command(cli, refused, tmp_path):
    (tmp_path/'plan.toml').write_text('seed = 3\n[[tracks]]\ndataset = "digits"\n')
    assert 'did you mean seeds?' in refused(f'sweep {tmp_path}/plan.toml --out {tmp_path}')
    (tmp_path/'plan.toml').write_text('[[tracks]]\ndataset = "digits"\n')
    assert 'no sweep of this plan' in refused(f'sweep {tmp_path}/plan.toml --status --out {tmp_path}')
    assert 'a budget is device-hours' in refused(f'sweep {tmp_path}/plan.toml --budget soon --out {tmp_path}')
    assert 'there is no plan' in refused(f'sweep {tmp_path}/plam.toml --out {tmp_path}')


# Ray

def test_ray_here_listens_on_loopback_with_a_token_and_survives_a_kill():
    pytest.importorskip('ray')
    code = """import os, time, psutil
from woofbench.commands.cluster import OnRay
e = OnRay(workers=2, threads=1)
me = psutil.Process()
all_ = [c for p in [me, *me.children(recursive=True)] for c in p.net_connections('inet')]
found = [c.laddr.ip for c in all_ if c.status=='LISTEN']
assert found and all(o.removeprefix('::ffff:') in ('127.0.0.1','::1') for o in found), found
assert os.environ['RAY_AUTH_MODE']=='token'
got = {}
for key,args in (('dies', dict(die=True)), ('lives', dict(value=1))):
    e.start(key, 'woofbench.commands.workers:nap', args)
while len(got)<2: got |= dict(e.finished(60))
assert (got['dies'].kind, got['lives'])==('lost', 1), got
e.stop()
print('right')"""
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=300, cwd=root)
    assert p.stdout.splitlines()[-1:]==['right'], p.stdout[-2000:]+p.stderr[-2000:]

@pytest.mark.slow
def test_records_of_a_cluster_equal_those_of_run(tmp_path):
    pytest.importorskip('ray')
    code = f"from woofbench import sweep\nsweep({small!r}, address='local', workers=2, out={str(tmp_path/'sweep')!r})"
    subprocess.run([sys.executable, '-c', code], check=True, timeout=580, cwd=root)
    assert numbers(tmp_path/'sweep')==EXPECTED(tmp_path)

@pytest.mark.slow
def test_a_cluster_of_eight_workers_does_five_hundred_tasks():
    "Growth, at a smaller size: little beside the work, little memory; the measurement asserts that all is done"
    pytest.importorskip('ray')
    from benchmarks.sweep_scale import HEAD, measure
    o = dict(zip(HEAD, measure('ray', 8, 500, .2)))
    assert float(o['tasks_per_s'])>8 and float(o['driver_mib'])<400, o


def test_folders_of_a_plan_count_from_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path/'home'))
    (tmp_path/'sub').mkdir()
    track = '[[tracks]]\ndataset = "{}"\ndata = "{}"\n'
    (tmp_path/'sub/plan.toml').write_text(track.format('./img', '~/d') + track.format('imagewoof', 'e'))
    a,b = read_plan('sub/plan.toml').tracks
    assert (Path(a['dataset']), a['data'])==(tmp_path/'sub/img', str(tmp_path/'home/d'))
    assert (b['dataset'], Path(b['data']))==('imagewoof', tmp_path/'sub/e')
    (c,) = read_plan(dict(tracks=[dict(dataset='./digits', data=Path('x'))])).tracks
    assert os.path.dirname(c['dataset']) and isinstance(c['data'], str), 'a folder, and not the dataset of this name'
