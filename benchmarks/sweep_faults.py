"""What does a sweep lose when a worker, a machine or the driver dies?

    python -m benchmarks.sweep_faults                     # worker, driver and node, 30 times each, sleeping tasks
    python -m benchmarks.sweep_faults worker -n 5 --real  # digits, really trained

A trial starts a sweep of eight seeds (real: four), sends SIGKILL at random moments, and starts the sweep again until it
ends by itself. It is right when every row has its record, no seed was kept twice, and none was begun after it was kept.
Sleeping tasks take the same locks and write the same kinds of files as real ones, and never import PyTorch.
"""
import argparse, csv, json, os, random, signal, subprocess, sys, tempfile, time
from collections import Counter
from pathlib import Path

SMALL = dict(recipe='digits+arch=xresnet10_tiny', changes=['act=relu'], seeds=2, machine=dict(device='cpu'),
             tracks=[dict(dataset='digits', size=16, epochs=1)])
SLEEPY = dict(changes=['act=relu', 'act=mish', 'sa=simple_sa'], seeds=2, tracks=[dict(dataset='digits')])


# Tasks that sleep: module:function strings for the driver

def _files(args):
    "(folder of a row, name of the row)"
    name = (args['change'] or 'base').replace('=', '-')
    return Path(args['out'])/'.woofbench'/args['track']['dataset'], name

def _rate(name, seed):
    "The accuracy that a sleeping seed ends with"
    return .5+.01*(sum(name.encode())%40)+.001*(seed*7%5)

def prepare(args): Path(args['out'], 'records').mkdir(parents=True, exist_ok=True)

def look(rows):
    "As `sweep_tasks.look`"
    from woofbench.files import digest
    res = []
    for o in rows:
        at,name = _files(o)
        kept = [[s, _rate(name, s)] for s in o['seeds'] if (at/f'{name}-{s}.json').exists()]
        rec = Path(o['out'], 'records', f'{name}.json').exists()
        res.append(dict(label=name, track='sleep', cell='sleep', config_id=digest('sleep', name), context='sleep',
                        seeds=o['seeds'], n_val=100, record=name if rec else None, kept=kept,
                        done=[[s, _rate(name, s)] for s in o['seeds']] if rec else []))
    return res

def _note(journal, word, name, seed):
    line = f'{time.time():.1f} {word} {name} sleep {seed} {os.getpid()}\n'
    with open(journal, 'a', encoding='utf-8') as f: f.write(line)

def die(args):
    "A task that ends its process"
    os.kill(os.getpid(), signal.SIGKILL)

def seed(args):
    "As `sweep_tasks.train_seed`: sleep, with a lock, and leave a file"
    from woofbench.files import try_lock, write_atomic
    (at,name),s,begin = _files(args),args['seeds'][args['place']],time.monotonic()
    path = at/f'{name}-{s}.json'
    while not path.exists():
        lock = try_lock(path.with_suffix('.lock'))
        if not lock:
            time.sleep(.05)
            continue
        try:
            if path.exists(): break
            if args.get('journal'): _note(args['journal'], 'begin', name, s)
            time.sleep(float(os.environ.get('SLEEP', .2)))
            write_atomic(path, b'{}')
            if args.get('journal'): _note(args['journal'], 'kept', name, s)
        finally: lock.release()
    return dict(seed=s, acc=_rate(name, s), seconds=time.monotonic()-begin, trained=True, node='here')

def publish(args):
    "As `sweep_tasks.publish`"
    from woofbench.files import write_atomic
    at,name = _files(args)
    if missing := [s for s in args['seeds'] if not (at/f'{name}-{s}.json').exists()]: raise ValueError(f'{missing}')
    write_atomic(Path(args['out'], 'records', f'{name}.json'), b'{}')
    return dict(record=name, mean=_rate(name, 0), std=0., seconds=0.)

TASKS = {o:f'benchmarks.sweep_faults:{o}' for o in ('prepare','look','seed','publish')}


# One sweep in a process of its own

def drive(out, real, executor=None, say=None):
    "Sweep, until all is done"
    from woofbench.commands.sweep import Driver, _lock, folder_of
    from woofbench.commands.sweep_plan import read_plan
    from woofbench.commands.workers import Local
    plan = read_plan(SMALL if real else SLEEPY)
    folder = folder_of(plan, out)
    folder.mkdir(parents=True, exist_ok=True)
    lock,mine = _lock(folder),executor is None
    executor = executor or Local(2, threads=1)
    try:
        d = Driver(plan, executor, Path(out), say or (lambda line: None), tasks=None if real else TASKS)
        d.look()
        d.begin()
        d.go()
    finally:
        if mine: executor.stop()
        lock.release()
    return d

def start(out, real):
    "The same in a process of its own"
    words = ['-m', 'benchmarks.sweep_faults', 'drive', '--out', str(out), *['--real']*real]
    return subprocess.Popen([sys.executable, *words], cwd=Path(__file__).parent.parent, stdout=subprocess.DEVNULL)


# Is all there, and once?

def wrong(out, real):
    "What is not as it should be, a word each"
    from woofbench.commands.sweep_plan import read_plan
    plan = read_plan(SMALL if real else SLEEPY)
    lines = [o.split() for f in Path(out).glob('.woofbench/sweeps/*/journal.txt') for o in f.read_text().splitlines()]
    kept,begun,res = Counter(),Counter(),[]
    for _,word,name,_,s,_ in lines:
        if word=='kept': kept[name, s] += 1
        elif kept[name, s]: res.append('trained again')
        else: begun[name, s] += 1
    # a worker that dies between its file and its line in the journal leaves a seed without the line
    if any(v>1 for v in kept.values()): res.append('kept twice')
    if len(begun)!=plan.runs: res.append(f'{len(begun)} of {plan.runs} seeds were trained')
    found = list(Path(out, 'records').rglob('*.json'))
    if len(found)!=len(plan.rows): res.append(f'{len(found)} of {len(plan.rows)} records')
    return res


# Trials

def _sleep(rng, p, most):
    "Until a random moment, or the end of a process"
    end = time.monotonic()+rng.uniform(0, most)
    while time.monotonic()<end and p.poll() is None: time.sleep(.02)

def kill_driver(out, rng, real=False):
    "SIGKILL for the driver, twice; the third may end"
    for _ in range(2):
        p = start(out, real)
        _sleep(rng, p, 60 if real else 3)
        p.send_signal(signal.SIGKILL)
        p.wait()
    assert start(out, real).wait(580)==0
    return wrong(out, real)

def kill_worker(out, rng, real=False):
    "SIGKILL for a worker, twice"
    import psutil
    p = start(out, real)
    for _ in range(2):
        _sleep(rng, p, 40 if real else 2)
        try: mine = [o for o in psutil.Process(p.pid).children(recursive=True) if 'spawn_main' in ' '.join(o.cmdline())]
        except psutil.Error: mine = []
        if mine: rng.choice(mine).kill()
    assert p.wait(580)==0
    return wrong(out, real)

def kill_node(out, rng, cluster, executor):
    "A machine of a simulated Ray cluster dies"
    import threading
    victim = cluster.add_node(num_cpus=2, object_store_memory=80<<20)
    timer = threading.Timer(rng.uniform(0, 2), lambda: cluster.remove_node(victim, allow_graceful=False))
    timer.start()
    executor.due = 0.
    drive(out, False, executor)
    timer.join()
    return wrong(out, False)

class Nodes:
    "A simulated cluster and its executor"
    def __enter__(self):
        import woofbench.commands.cluster as wr
        os.environ['RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER'] = '0'
        wr._safe(True)
        from ray.cluster_utils import Cluster
        self.cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, object_store_memory=80<<20))
        self.executor = wr.OnRay(self.cluster.address, threads=1)
        return self.cluster,self.executor

    def __exit__(self, *args):
        self.executor.stop()
        self.cluster.shutdown()


def trials(kind, n, real=False, seed=0):
    "Of each trial, what is not as it should be"
    rng = random.Random(seed)
    def one(f, *more):
        with tempfile.TemporaryDirectory() as tmp: return f(Path(tmp), rng, *more)
    if kind=='node':
        with Nodes() as found: return [one(kill_node, *found) for _ in range(n)]
    return [one(dict(worker=kill_worker, driver=kill_driver)[kind], real) for _ in range(n)]


def main():
    p = argparse.ArgumentParser()
    p.add_argument('kinds', nargs='*', default=['worker','driver','node'])
    p.add_argument('-n', type=int, default=30)
    p.add_argument('--real', action='store_true')
    p.add_argument('--out')
    p.add_argument('--csv', help='add a line for each kind to this file')
    a = p.parse_args()
    if a.kinds==['drive']: return drive(Path(a.out), a.real)
    for kind in a.kinds:
        begin,found = time.monotonic(),trials(kind, a.n, a.real)
        bad = Counter(w for o in found for w in o)
        line = [kind, 'real' if a.real else 'sleeping', len(found), sum(not o for o in found), dict(bad),
                f'{time.monotonic()-begin:.0f}']
        print(json.dumps(line), flush=True)
        if a.csv:
            with open(a.csv, 'a', newline='', encoding='utf-8') as f: csv.writer(f).writerow(line)


if __name__=='__main__': main()
