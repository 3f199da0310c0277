"""How does a sweep grow? Tasks a second, what a task costs beside its work, the driver's memory, and the board.

    python -m benchmarks.sweep_scale                       # all of it, about half an hour on two cores
    python -m benchmarks.sweep_scale ray --workers 16 64 --tasks 2000

real   one and two local processes that train digits
local  local processes with tasks that sleep
ray    a simulated cluster, machines of up to 16 workers, with tasks that sleep; PyTorch is not imported
board  seconds that a new row takes to be in leaderboard.csv, beside so many rows

Each line is measured in a process of its own. Results go to benchmarks/results/sweep-scale.csv.
"""
import argparse, csv, os, resource, subprocess, sys, tempfile, time
from pathlib import Path

HEAD = ['what','workers','tasks','seconds_of_task','seconds','tasks_per_s','overhead_ms','driver_mib','load']
RESULTS = Path(__file__).parent/'results'/'sweep-scale.csv'


# Tasks that sleep and leave no files

def prepare(args): pass

def look(rows):
    "Facts of rows that are all new"
    return [dict(label=o['change'] or 'base', track='sleep', cell='sleep', config_id=o['change'], context='sleep',
                 seeds=o['seeds'], n_val=100, record=None, kept=[], done=[]) for o in rows]

def seed(args):
    s = float(args['note'])
    time.sleep(s)
    return dict(seed=args['place'], acc=.5, seconds=s, trained=True, node='here')

def publish(args): return dict(record=args['change'] or 'base', mean=.5, std=.0, seconds=0.)

TASKS = {o:f'benchmarks.sweep_scale:{o}' for o in ('prepare','look','seed','publish')}


# One measurement

def driver_mib(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024

def drive(d, warm_up):
    "Seconds that a sweep takes once all workers have started"
    d.folder.mkdir(parents=True)
    warm_up()
    d.look()
    d.begin()
    begin = time.monotonic()
    d.go()
    return time.monotonic()-begin

def sleeping(executor, workers, tasks, sleep, what):
    "A line for a sweep of `tasks` seeds"
    from woofbench.commands.sweep import Driver
    from woofbench.commands.sweep_plan import read_plan
    plan = read_plan(dict(base=False, product=dict(lr=list(range(tasks//5))), seeds=5, note=str(sleep),
                          tracks=[dict(dataset='digits')]))
    with tempfile.TemporaryDirectory() as tmp:
        d = Driver(plan, executor, Path(tmp), tasks=TASKS)
        took = drive(d, lambda: warm(executor, workers))
    assert d.status(True)['done']==plan.runs and 'torch' not in sys.modules
    n = plan.runs + len(plan.rows) # rows are published by tasks, too
    return [what, workers, plan.runs, sleep, took, plan.runs/took, 1000*(took*workers-plan.runs*sleep)/n, driver_mib()]

def warm(executor, workers):
    "Let every worker start"
    for i in range(workers): executor.start(i, 'woofbench.commands.workers:nap', dict(seconds=1))
    n = 0
    while n<workers: n += len(executor.finished(5))

def warm_real(executor, workers):
    "Let every worker import PyTorch"
    for i in range(workers): executor.start(i, 'importlib:import_module', 'woofbench.commands.sweep_tasks')
    while executor.running: executor.finished(5) # a module cannot be sent back: that is an error, and no matter

def local(workers, tasks, sleep):
    from woofbench.commands.workers import Local
    executor = Local(workers, threads=1)
    try: return sleeping(executor, workers, tasks, sleep, 'local')
    finally: executor.stop()

def ray(workers, tasks, sleep):
    "Machines with at most 16 workers each, all on this one"
    import woofbench.commands.cluster as wr
    wr._safe(True)
    from ray.cluster_utils import Cluster
    each = min(16, workers)
    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=each, object_store_memory=80<<20))
    for _ in range(workers//each-1): cluster.add_node(num_cpus=each, object_store_memory=80<<20)
    executor = wr.OnRay(cluster.address, threads=1)
    try: return sleeping(executor, workers, tasks, sleep, f'ray, {workers//each} machines')
    finally:
        executor.stop()
        cluster.shutdown()

def real(workers, tasks, sleep):
    "Digits, really trained; what a task costs beside the training that its worker measured"
    from woofbench.commands.sweep import Driver
    from woofbench.commands.sweep_plan import read_plan
    from woofbench.commands.workers import Local
    plan = read_plan(dict(recipe='digits+arch=xresnet10_tiny', seeds=tasks, machine=dict(device='cpu'),
                          tracks=[dict(dataset='digits', size=16, epochs=1)]))
    executor = Local(workers, threads=1)
    with tempfile.TemporaryDirectory() as tmp:
        d = Driver(plan, executor, Path(tmp))
        took = drive(d, lambda: warm_real(executor, workers))
    executor.stop()
    beside = 1000*(took*workers-d.seconds)/tasks
    return ['real', workers, tasks, d.seconds/tasks, took, tasks/took, beside, driver_mib()]

def board(workers, tasks, sleep):
    "Bring leaderboard.csv in step after a new row, beside `tasks` rows"
    sys.path.insert(0, str(Path(__file__).parent.parent/'tests'))
    from pulls import Dogs
    from woofbench.board.record.record import record_path, to_bytes
    from woofbench.board.table import update_csv
    dogs = Dogs(1)
    with tempfile.TemporaryDirectory() as tmp:
        out = Path(tmp)
        def add(i):
            rec = dogs.entry(lr=(1000+i)*1e-6)
            (path := out/record_path(rec)).parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(to_bytes(rec))
        for i in range(tasks): add(i)
        update_csv(out)
        add(tasks)
        begin = time.monotonic()
        update_csv(out)
        took = time.monotonic()-begin
    return ['board', 1, tasks, 0, took, 1/took, 1000*took, driver_mib()]


def measure(what, workers, tasks, sleep):
    "The same in a process of its own; the line"
    words = [sys.executable, '-m', 'benchmarks.sweep_scale', 'one', what, str(workers), str(tasks), str(sleep)]
    out = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    if out.returncode: raise RuntimeError(out.stderr[-2000:])
    return out.stdout.splitlines()[-1].split(';')

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('what', nargs='+')
    p.add_argument('--workers', type=int, nargs='+', default=[1, 2])
    p.add_argument('--tasks', type=int, nargs='+', default=[1000])
    p.add_argument('--sleep', type=float, default=.1)
    a = p.parse_args()
    if a.what[0]=='one':
        found = globals()[a.what[1]](int(a.what[2]), int(a.what[3]), float(a.what[4]))
        return print(';'.join(f'{o:.4g}' if isinstance(o, float) else str(o) for o in [*found, os.getloadavg()[0]]))
    new = not RESULTS.exists()
    for what in a.what:
        for w in a.workers:
            for n in a.tasks:
                line = measure(what, w, n, a.sleep)
                print(line, flush=True)
                with open(RESULTS, 'a', newline='', encoding='utf-8') as f:
                    csv.writer(f).writerows([HEAD]*new + [line])
                new = False


if __name__=='__main__': main()
