"What breaks off loses nothing: damaged seeds, crashes at every step, writers at once, full disks, odd output"
import json, os, signal, subprocess, sys, threading, time
from dataclasses import replace
from pathlib import Path
import pytest
from conftest import root

sys.path.insert(0, str(root))
from benchmarks import faults  # noqa: E402
from woofbench.train.machine import Machine
from woofbench import files
from woofbench.commands import publish, run as runner  # noqa: E402
from woofbench.files import try_lock, locked, probe, replacing, sweep, unfinished, write_atomic  # noqa: E402
from woofbench.board.table import check_csv, load_rows, update_csv  # noqa: E402
from woofbench.board.record.record import read_records, seed_bytes  # noqa: E402
from woofbench.registry import BadInput  # noqa: E402
from warm import python

program = Path(sys.executable).with_name('woofbench')
tiny = 'run --dataset digits --epochs 1 --arch xresnet10_tiny --size 16 --bs 128'.split()


@pytest.fixture(scope='module')
def bench(): return faults.Bench()

@pytest.fixture(scope='module')
def want(bench, tmp_path_factory): return faults.expected(bench, tmp_path_factory.mktemp('undisturbed'))

class Stop(Exception): "Breaks off a run"

def stopped(bench, out, monkeypatch, n=1):
    "A run of five seeds that is broken off after `n`; the folder with its seeds"
    def some(job, seeds, *args, **kw):
        for s in seeds[:n]: yield replace(bench.runs[s%2], seed=s)
        raise Stop
    with monkeypatch.context() as m:
        m.setattr('woofbench.train.multi_seed.train_seeds', some)
        with pytest.raises(Stop):
            runner.train_row(bench.plan, list(range(5)), out, Machine(device='cpu', workers=0), say=None)
    return next(out.rglob('seed-0.json')).parent


# Seeds

def test_a_shorter_run_takes_nothing_from_a_stopped_one(bench, tmp_path, monkeypatch):
    folder = stopped(bench, tmp_path, monkeypatch, 2)
    monkeypatch.setattr('woofbench.train.multi_seed.train_seeds', lambda *args, **kw: (o for o in ()))
    row = runner.train_row(bench.plan, [0], tmp_path, Machine(device='cpu', workers=0), say=None)
    assert [r['seed'] for r in row.runs]==[0] and not (folder/'seed-0.json').exists()
    assert (folder/'seed-1.json').is_file(), 'it went into no record'
    trained = []
    def train(job, seeds, *args, **kw):
        trained.extend(seeds)
        yield from (replace(bench.runs[s%2], seed=s, init_sha256=f'{s:016}') for s in seeds)
    monkeypatch.setattr('woofbench.train.multi_seed.train_seeds', train)
    five = runner.train_row(bench.plan, list(range(5)), tmp_path, Machine(device='cpu', workers=0), say=None)
    assert trained==[0,2,3,4] and five.n==5, 'the evidence of seed 0 is in a record, and belongs in no second one'
    assert not list(tmp_path.rglob('seed-*'))

def edited(**kw): return lambda raw, key: json.dumps(json.loads(raw) | kw).encode()

def sealed(change):
    "A seed file that was changed by a program which knows how hashes are made"
    def f(raw, key):
        r = json.loads(raw)
        r.pop('sha256')
        change(r)
        return seed_bytes(key, r)
    return f

damage = {
    'number':edited(correct=1), 'another seed':edited(seed=1), 'more':edited(more=1), 'nan':lambda raw,
    key: raw.replace(b'"peak_mem_mb": ', b'"peak_mem_mb": NaN, "x": '),
    'missing':lambda raw, key: json.dumps({k:v for k,v in json.loads(raw).items() if k!='device'}).encode(),
    'no hash':lambda raw, key: json.dumps({k:v for k,v in json.loads(raw).items() if k!='sha256'}).encode(),
    'deep':lambda raw, key: b'['*200000, 'huge':lambda raw, key: b'9'*9999, 'long':lambda raw, key: raw+b' '*(1<<21),
    'cut':lambda raw, key: raw[:len(raw)//2], 'empty':lambda raw, key: b'',
    'list':lambda raw, key: b'[]', 'null':lambda raw, key: b'null', 'not utf-8':lambda raw,
    key: raw.replace(b'"device"', b'"devic\xff"'), 'command':edited(device='=cmd|x'), 'loss':lambda raw,
    key: raw.replace(b'"train_loss": ', b'"train_loss": 1'),
    'sealed count':sealed(lambda r: r.update(correct=r['correct']-1)),
    'sealed epochs':sealed(lambda r: r.update(curve=r['curve']*2)),
    'sealed command':sealed(lambda r: r.update(device='=cmd|x')),
    'sealed curve':sealed(lambda r: r.update(curve=[])), 'sealed type':sealed(lambda r: r.update(preds=7)),
    'other seed':sealed(lambda r: r.update(seed=1)),
}

@pytest.mark.parametrize('what', damage)
def test_damaged_seed_is_trained_again(what, bench, want, tmp_path, monkeypatch):
    folder = stopped(bench, tmp_path, monkeypatch)
    path = folder/'seed-0.json'
    key = '/'.join(folder.parts[-3:])
    new = damage[what](path.read_bytes(), key)
    assert new!=path.read_bytes()
    path.write_bytes(new)
    said,trained = [],[]
    def train(job, seeds, *args, **kw):
        trained.extend(seeds)
        yield from (bench.runs[s] for s in seeds)
    monkeypatch.setattr('woofbench.train.multi_seed.train_seeds', train)
    runner.train_row(bench.plan, [0,1], tmp_path, Machine(device='cpu', workers=0), say=said.append)
    assert trained==[0,1] and any('seed-0.json cannot be used' in o and 'trained again' in o for o in said)
    assert not faults.wrong(tmp_path, want[0])

def test_two_commands_share_the_seeds_of_a_row(bench, want, tmp_path):
    "The second waits for what the first trains, and nothing is trained twice"
    trained,said,rows,errors,go = [],[],[],[],threading.Event()
    from woofbench.train import multi_seed as several
    def train(job, seeds, *args, **kw):
        for s in seeds:
            assert go.wait(60)
            trained.append(s)
            yield bench.runs[s]
    def one():
        here = Machine(device='cpu', workers=0)
        try: rows.append(runner.train_row(bench.plan, [0,1], tmp_path, here, say=said.append))
        except BaseException as e: errors.append(e)
    true,several.train_seeds = several.train_seeds,train
    try:
        threads = [threading.Thread(target=one) for _ in range(2)]
        for o in threads: o.start()
        for _ in range(600):
            if any('another command trains seed 0, 1' in o for o in said): break
            time.sleep(.1)
        go.set()
        for o in threads: o.join(60)
    finally: several.train_seeds = true
    assert not errors, errors
    assert sorted(trained)==[0,1] and len(rows)==2 and rows[0].id==rows[1].id
    assert not faults.wrong(tmp_path, want[0])


# Breaking off

@pytest.mark.parametrize('how,again', (('kill',False), ('kill',True), ('stop',False), ('full',False)))
def test_every_third_step_may_be_the_last(how, again, bench, want, tmp_path):
    "All of them are tried by benchmarks/faults.py"
    for i in range(1 + ('kill','stop','full').index(how), want[1]+1, 3 if how=='kill' and not again else 6):
        code,lies,end = faults.crash(bench, tmp_path/f'{i}', want[0], i, how, again)
        assert not lies and not end and code in dict(kill=(faults.DIED,), stop=(130,0), full=(2,0))[how], (i, code,
                lies, end)

def test_the_line_comes_with_the_same_command(bench, want, tmp_path):
    "Killed between the record and its line"
    bench.train(tmp_path)
    (tmp_path/'leaderboard.csv').unlink()
    said = []
    runner.train_row(bench.plan, [0,1], tmp_path, Machine(device='cpu', workers=0), say=said.append)
    assert any('there already' in o for o in said) and not faults.wrong(tmp_path, want[0])

def test_a_record_that_cannot_be_read_back_keeps_the_seeds(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(publish, 'read_record', lambda path: {})
    with pytest.raises(BadInput, match='all seeds are kept'): bench.train(tmp_path)
    assert len(list(tmp_path.rglob('seed-*.json')))==2 and read_records(tmp_path)==([],[])

@pytest.mark.parametrize('same_pid', (False,True))
def test_eight_writers_at_once(same_pid, bench, tmp_path):
    plans = [replace(bench.plan, recipe=bench.plan.recipe.but(lr=.001*(i+1))) for i in range(8)]
    codes,reads,parts = faults.together(bench, plans, tmp_path, same_pid)
    assert codes==[0]*8 and parts==0 and reads
    assert len(load_rows(tmp_path)[0])==8 and not faults.wrong(tmp_path, faults.numbers(tmp_path)[0])


# Files

def test_unfinished_files_without_a_process_are_swept(bench, want, tmp_path):
    bench.train(tmp_path)
    cell = next((tmp_path/'records').rglob('*.json')).parent
    left = [cell/'.0123456789abcdef.json.4711.tmp', tmp_path/'.leaderboard.csv.00ff.tmp',
            tmp_path/'.woofbench'/'.probe.12.tmp']
    for i,o in enumerate(left):
        o.write_text('{')
        os.utime(o, (2**33*(i%2) or 1,)*2) # from 2242, or 1970
    others = [tmp_path/'.mine.12.tmp', cell/'notes.tmp']
    for o in others: o.write_text('x')
    publish.check_board(tmp_path)
    assert not any(o.exists() for o in left) and all(o.exists() for o in others)

def test_check_says_what_unfinished_files_are(bench, tmp_path, cli):
    path = bench.train(tmp_path).path
    path.with_name('.0123456789abcdef.json.4711.tmp').write_text('{')
    rc,out,err = cli(f'check {tmp_path}')
    assert rc!=1 and 'left by a process that was killed' in out and '.4711.tmp' in out and not err

def test_a_living_writer_keeps_its_file(tmp_path):
    "Also one in another process"
    code = f'import sys, pathlib; from woofbench.files import replacing\nwith replacing(pathlib.Path({str(tmp_path/"a")!r})) as f: f.write(b"whole"); print("open", flush=True); sys.stdin.read()' # noqa: E501
    p = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                         cwd=root)
    assert p.stdout.readline()=='open\n'
    tmp, = tmp_path.iterdir()
    os.utime(tmp, (2**33, 2**33))
    assert unfinished(tmp)=='a' and sweep(tmp_path)==[] and tmp.exists()
    p.communicate('')
    assert (tmp_path/'a').read_bytes()==b'whole' and len(list(tmp_path.iterdir()))==1

def test_where_locks_lie_a_write_is_made_again(tmp_path, monkeypatch):
    "Another host's sweep may see no lock"
    move,swept = files._move,[]
    def f(tmp, path):
        if not swept:
            swept.append(tmp)
            tmp.unlink()
        return move(tmp, path)
    monkeypatch.setattr(files, '_move', f)
    write_atomic(tmp_path/'a', b'x')
    assert swept and (tmp_path/'a').read_bytes()==b'x'

def test_without_locks_only_old_files_are_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(files, '_grip', lambda f: None)
    new,old,future = (tmp_path/f'.a.{i}.tmp' for i in range(3))
    for o,t in ((new,0), (old,-9e4), (future,9e4)):
        o.write_text('x')
        os.utime(o, (time.time()+t,)*2)
    assert sorted(sweep(tmp_path))==[old,future] and new.exists()

def test_a_failed_write_changes_nothing(tmp_path):
    write_atomic(tmp_path/'a', b'old')
    with pytest.raises(Stop), replacing(tmp_path/'a') as f:
        f.write(b'half')
        raise Stop
    assert (tmp_path/'a').read_bytes()==b'old' and len(list(tmp_path.iterdir()))==1

def test_no_locks_end_in_a_sentence(tmp_path, monkeypatch, bench):
    import errno, fcntl
    def f(*args): raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    bench.train(tmp_path/'board')
    monkeypatch.setattr(fcntl, 'flock', f)
    with pytest.raises(BadInput, match='on a file system with locks'): bench.train(tmp_path/'new')
    assert update_csv(tmp_path/'board').is_file(), 'what is in step needs no lock'
    (tmp_path/'board'/'leaderboard.csv').unlink()
    with pytest.raises(BadInput, match='on a file system with locks'): update_csv(tmp_path/'board')

def test_locks(tmp_path):
    with locked(tmp_path/'lock'):
        with locked(tmp_path/'lock'): pass # the same thread goes on
        said = []
        def other():
            try:
                with locked(tmp_path/'lock', said.append, .2): pass
            except BadInput as e: said.append(str(e))
        t = threading.Thread(target=other)
        t.start()
        t.join()
        assert len(said)==2 and 'waiting' in said[0] and 'has held' in said[1]
    first = try_lock(tmp_path/'seed')
    assert first and try_lock(tmp_path/'seed') is None
    first.release()
    assert not (tmp_path/'seed').exists()

def test_probes_do_not_race(tmp_path):
    bad = []
    def f():
        try:
            for _ in range(50): probe(tmp_path)
        except OSError as e: bad.append(e)
    threads = [threading.Thread(target=f) for _ in range(8)]
    for o in threads: o.start()
    for o in threads: o.join()
    assert not bad and not list(tmp_path.iterdir())


# Known before training

@pytest.fixture
def untrained(monkeypatch):
    def f(*args, **kw): raise AssertionError('training began')
    monkeypatch.setattr('woofbench.train.multi_seed.train_seeds', f)
    monkeypatch.setattr('woofbench.train.learner.fit', f)

@pytest.mark.parametrize('text', (b'dataset,acc,who\ndigits,0.9,me\n', b'\xff\xfe', b'mine\n'))
def test_an_old_board_is_found_before_training(text, tmp_path, refused, untrained):
    (tmp_path/'leaderboard.csv').write_bytes(text)
    assert 'leaderboard.csv' in refused([*tiny, '--seeds', '1', '--out', str(tmp_path)])
    assert 'leaderboard.csv' in refused(['ablate', '--one-at-a-time', 'act=relu', *tiny[1:], '--seeds', '2', '--out',
                                         str(tmp_path)])
    assert (tmp_path/'leaderboard.csv').read_bytes()==text and not (tmp_path/'records').exists()

@pytest.mark.parametrize('plot,word', (('/nowhere/x.png','/nowhere'), ('x.xyz','no format'), ('.','folder')))
def test_a_plot_that_cannot_be_is_refused_before_training(plot, word, tmp_path, refused, untrained):
    assert word in refused(['ablate', '--one-at-a-time', 'act=relu', *tiny[1:], '--seeds', '2', '--out',
                            str(tmp_path/'out'), '--plot', str(tmp_path/plot)])

def test_the_table_comes_before_the_plot(tmp_path, monkeypatch, capsys):
    from woofbench.commands.verbs import ablate
    class Table:
        def plot(self): raise RuntimeError('no font')
        def __str__(self): return 'the table'
    monkeypatch.setattr('woofbench.commands.ablate.ablate', lambda *args, **kw: Table())
    with pytest.raises(BadInput, match='cannot draw.*no font'): ablate(one_at_a_time=[], out=str(tmp_path))
    assert 'the table' in capsys.readouterr().out

def test_a_line_typed_during_training_keeps_record_and_line(bench, tmp_path, monkeypatch):
    go = publish._write
    def typed(rec, out):
        (out/'leaderboard.csv').write_text('mine\n')
        return go(rec, out)
    monkeypatch.setattr(publish, '_write', typed)
    with pytest.raises(BadInput, match='is written, but leaderboard.csv is not'): bench.train(tmp_path)
    assert len(read_records(tmp_path)[0])==1 and (tmp_path/'leaderboard.csv').read_text()=='mine\n'

def test_quiet_and_here(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bench.train(None)
    assert check_csv(tmp_path) and capsys.readouterr().out==''
    with pytest.raises(BadInput, match='out must be a folder'): bench.train(5)
    # no evidence goes into two rows
    monkeypatch.setattr('woofbench.train.multi_seed.train_seeds', lambda *args,
                        **kw: (o for o in [replace(bench.runs[0], peak_mem_mb=1)]))
    row = runner.run('digits', size=16, epochs=1, arch='xresnet10_tiny', bs=128, seeds=1, say=None, out=None,
                     device='cpu')
    assert row.path.is_file() and capsys.readouterr().out==''


# What the program says

def shell(line, cwd):
    return subprocess.run(['bash', '-c', line], capture_output=True, text=True, cwd=cwd, errors='replace')

@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='takes /dev/full')
def test_output_that_goes_nowhere(tmp_path):
    res = shell(f'{program} cache > /dev/full', tmp_path)
    assert res.returncode==2 and res.stderr=='woofbench: cannot write the output: No space left on device\n'
    res = shell(f'set -o pipefail; {program} cache --help | true', tmp_path)
    assert res.returncode in (0,141) and not res.stderr
    res = shell(f'set -o pipefail; {program} cache 2>&1 | (exec 0<&-; sleep 1)', tmp_path)
    assert res.returncode==141 and not res.stderr and not res.stdout
    res = shell(f'{program} cache >&- 2>&-; echo $?; {program} bord > /dev/full 2>&1; echo $?', tmp_path)
    assert res.stdout=='0\n2\n' and not res.stderr

def test_names_of_files_are_not_obeyed(bench, tmp_path, cli):
    bench.train(tmp_path)
    bad = os.fsdecode(b'x\xff\x1b[31m\xe2\x80\xae.json')
    (tmp_path/'records'/bad).write_text('{}')
    for line in (f'board --out {tmp_path}', f'check {tmp_path}'):
        rc,out,err = cli(line)
        assert rc in (1,2) and '\x1b' not in out+err and '\udcff' not in out+err and '\u202e' not in out+err and 'udcff' in out # noqa: E501
    assert '\x1b' not in cli(['board', '--out', '/nowhere/\x1b[31m'])[2]

@pytest.mark.parametrize('e', (MemoryError(), RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')))
def test_out_of_memory_outside_training(e, tmp_path, monkeypatch, refused):
    def f(*args, **kw): raise e
    monkeypatch.setattr('woofbench.train.learner.load_images', f)
    assert 'out of memory' in refused([*tiny, '--seeds', '1', '--engine', 'fast', '--out', str(tmp_path)])

def test_three_ctrl_c(tmp_path):
    "Within 90 ms, to all processes, while loaders work"
    args = [program, *tiny, '--seeds', '9', '--engine', 'fastai', '--workers', '2', '--out', str(tmp_path)]
    p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    while p.poll() is None and not list(tmp_path.rglob('seed-0.json')): time.sleep(.02)
    time.sleep(.5)
    for _ in range(3):
        os.killpg(p.pid, signal.SIGINT)
        time.sleep(.03)
    _,err = p.communicate(timeout=120)
    assert p.returncode==130 and len(err.strip().splitlines())==1 and 'same command goes on' in err, err

def test_without_what_only_posix_has(tmp_path):
    "As Windows has it: no fcntl, no resource in our files, no os.sysconf"
    code = f'''
import os, pathlib, sys, torch, fastai.vision.all, filelock
sys.modules['fcntl'] = None
del os.sysconf
from woofbench import files
from woofbench.commands import run
from woofbench.train.machine import device_memory
assert files.fcntl is None and device_memory(torch.device('cpu'))==float('inf')
p = pathlib.Path({str(tmp_path)!r})
files.write_atomic(p/'a', b'x')
(p/'.b.12.tmp').write_bytes(b'x')
assert files.sweep(p)==[p/'.b.12.tmp'] and (p/'a').read_bytes()==b'x'
'''
    p = python(code, cwd=root)
    assert p.returncode==0, p.stderr
