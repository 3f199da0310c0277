"""What is lost when a run breaks off? Kills, crashes at every step, eight writers at once, and full disks.

    python -m benchmarks.faults                      # all four tables, about 15 minutes on one core
    python -m benchmarks.faults crashes writers      # some of them

kills     SIGKILL at a random moment of a run that really trains (digits, two seeds of one epoch), then the same command
crashes   the process ends at the n-th write (before it, or half-way), rename, flush, removal or new
          folder, for every n;
          then the same command
writers   eight runs of different recipes that end at the same moment, in folders of one board, with and without equal
          process ids, while another process reads leaderboard.csv
disk      no space left at the n-th write, for every n, and a really full disk (a small tmpfs, for
          root); then more space
          and the same command

Only `kills` trains. The others take the evidence of two seeds from one short training and run everything around it.
A trial is right when the record has the numbers of an undisturbed run, leaderboard.csv is what the records give, and
nothing else is left. It is *silently wrong* when a command said that all is well and it was not.
"""
import argparse, errno, multiprocessing, os, random, shutil, signal, subprocess, sys, tempfile, time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

FIELDS = dict(dataset='digits', epochs=1, arch='xresnet10_tiny', size=16)
SEEDS = [0, 1]
DIED = 77 # exit status of a process that a crash point ended


# What is right

def numbers(out):
    "What the records of a board say, without seconds and dates"
    from woofbench.board.record.record import read_records
    recs,bad = read_records(out)
    def one(r):
        curve = [(o['train_loss'], o['valid_loss'], o['correct']) for o in r['curve']]
        return r['seed'], r['correct'], r['preds'], r['init_sha256'], curve
    return sorted((o['config_id'], [one(r) for r in o['runs']]) for o in recs), bad

def wrong(out, want):
    "What is not as it should be on a board, a word each"
    from woofbench.board.table import load_rows, to_csv
    have,bad = numbers(out)
    path = out/'leaderboard.csv'
    res = ['records'] if have!=want or bad else []
    if not path.is_file() or path.read_text()!=to_csv(load_rows(out)[0]): res.append('csv')
    if [*out.rglob('*.tmp')]: res.append('unfinished files')
    return res + ['seed files']*bool([*out.rglob('seed-*')])


# Runs without training

class Bench:
    "A plan, and the evidence of its seeds, trained once"
    def __init__(self, **changes):
        from woofbench.commands.prepare import plan
        from woofbench.train.machine import Machine
        from woofbench.train.multi_seed import train_seeds
        self.plan = plan(**FIELDS | changes)
        p = self.plan
        self.runs = {o.seed:o for o in train_seeds(p, SEEDS, Machine(device='cpu', workers=0))}

    def train(self, out, plan=None, gate=None, **kw):
        "Publish a row of stored evidence; seeds end when `gate` opens"
        from woofbench.train import multi_seed as several
        from woofbench.commands.run import train_row
        from woofbench.train.machine import Machine
        def stored(job, seeds, *args, **kw):
            if gate: gate.wait(60)
            yield from (self.runs[o] for o in seeds)
        true,several.train_seeds = several.train_seeds,stored
        try:
            return train_row(plan or self.plan, SEEDS, out, Machine(device='cpu', workers=0, cache=False), say=None,
                             **kw)
        finally: several.train_seeds = true


def begin(f, *args):
    "Call `f(*args)` in a process of its own, without output; its id"
    from woofbench.registry import BadInput
    if pid := os.fork(): return pid
    code = 1
    try:
        with open(os.devnull, 'w') as null, redirect_stdout(null), redirect_stderr(null): code = f(*args)
    except BadInput: code = 2
    except KeyboardInterrupt: code = 130
    finally: os._exit(code if type(code) is int else 0)

def end(pid):
    "Wait for a process: 0, 2 after a `BadInput`, 130 after Ctrl-C, 1 after another error, or minus the signal"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def apart(f, *args): return end(begin(f, *args))


@contextmanager
def points(do, half=True):
    "Call `do(n, name)` before the n-th write, rename, flush, removal or new folder, and half-way through a write"
    from woofbench import files
    true,count = {k:getattr(os, k) for k in ('replace','fsync','unlink','mkdir','rmdir')},[0]
    new = files._new
    def step(name):
        count[0] += 1
        do(count[0], name)
    def wrap(k):
        def f(*args, **kw):
            step(k)
            return true[k](*args, **kw)
        return f
    def opened(path):
        step('open')
        f,tmp = new(path)
        write = f.write
        class File:
            def __getattr__(self, k): return getattr(f, k)
            def __enter__(self): return self
            def __exit__(self, *args): f.close()
            def write(self, data):
                step('write')
                if half:
                    write(data[:len(data)//2])
                    f.flush()
                    step('half a write')
                    return write(data[len(data)//2:])
                return write(data)
        return File(), tmp
    try:
        for k in true: setattr(os, k, wrap(k))
        files._new = opened
        yield count
    finally:
        for k,o in true.items(): setattr(os, k, o)
        files._new = new


# The four

def expected(bench, folder):
    "The numbers of an undisturbed run, and how many points it has"
    out = folder/'undisturbed'
    with points(lambda n, name: None) as count: bench.train(out)
    assert not (odd := wrong(out, numbers(out)[0])), odd
    return numbers(out)[0], count[0]

def crash(bench, out, want, at, how, again=False):
    "End a run at point `at`, run it again: (what the first did, what was silently wrong, what is wrong in the end)"
    def do(n, name):
        if n!=at: return
        if how=='kill': os._exit(DIED)
        raise {'full':OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 'stop':KeyboardInterrupt()}[how]
    def first():
        with points(do): bench.train(out, again=again)
    return twice(first, lambda: bench.train(out, again=again), out, want)

def twice(first, second, out, want):
    "As `crash`"
    code = apart(first)
    lies = [o for o in wrong(out, want) if o in ('records','csv')] if code==0 else []
    then = apart(second)
    return code, lies, ([f'exit {then}'] if then else []) + wrong(out, want)

def crashes(bench, folder, args):
    want,n = expected(bench, folder)
    for how,again in (('kill',False), ('kill',True), ('stop',False)):
        res = [crash(bench, folder/f'{how}-{again}-{i}', want, i, how, again) for i in range(1, n+1)]
        yield f'{"killed" if how=="kill" else "Ctrl-C"} at a point{", --again" if again else ""}', len(res), res

def disk(bench, folder, args):
    want,n = expected(bench, folder)
    yield 'no space at a point', n, [crash(bench, folder/f'full-{i}', want, i, 'full') for i in range(1, n+1)]
    room = folder/'room'
    room.mkdir()
    if subprocess.run(['mount','-t','tmpfs','-o','size=4k','none',str(room)], capture_output=True).returncode: return
    try: yield 'a full tmpfs of 1 to 16 pages', 16, [small(bench, room, want, i) for i in range(1, 17)]
    finally: subprocess.run(['umount',str(room)], check=True)

def small(bench, room, want, pages):
    "A run in a file system of so many pages, then the same with enough of them"
    def resize(n): subprocess.run(['mount','-o',f'remount,size={4*n}k',str(room)], check=True)
    for o in room.iterdir(): shutil.rmtree(o)
    resize(pages)
    code = apart(bench.train, room/'out')
    lies = [o for o in wrong(room/'out', want) if o in ('records','csv')] if code==0 else []
    resize(256)
    then = apart(bench.train, room/'out')
    return code, lies, ([f'exit {then}'] if then else []) + wrong(room/'out', want)

def watch(path, stop, found):
    "Read leaderboard.csv until told to stop; (reads, reads of a part)"
    from woofbench.board.row import columns
    n = part = 0
    while not stop.is_set():
        try: text = path.read_text()
        except FileNotFoundError: continue
        n += 1
        part += not text.endswith('\n') or any(o.count(',')<len(columns)-1 for o in text.splitlines())
    found.put((n, part))

def together(bench, plans, out, same_pid=False):
    "Runs whose seeds end at the same moment: (their exit codes, reads, reads of a part)"
    many = multiprocessing.get_context('fork')
    gate,stop,found = many.Barrier(len(plans)),many.Event(),many.Queue()
    def one(plan):
        if same_pid: os.getpid = lambda: 4711
        bench.train(out, plan, gate)
    reader = many.Process(target=watch, args=(out/'leaderboard.csv', stop, found))
    reader.start()
    res = [end(o) for o in [begin(one, o) for o in plans]]
    stop.set()
    reads = found.get(timeout=60)
    reader.join()
    return res, *reads

def writers(bench, folder, args):
    from dataclasses import replace
    p = bench.plan
    plans = [replace(p, recipe=p.recipe.but(lr=.001*(i+1))) for i in range(8)]
    for o in plans: bench.train(folder/'alone', o)
    want = numbers(folder/'alone')[0]
    for same in (False, True):
        res,reads,parts = [],0,0
        for i in range(args.rounds):
            out = folder/f'together-{same}-{i}'
            codes,n,part = together(bench, plans, out, same)
            odd = wrong(out, want) + ['part of a file was read']*bool(part)
            res.append((max(codes), odd, odd))
            reads,parts = reads+n,parts+part
        yield f'8 writers{", equal process ids" if same else ""} ({reads} reads)', 8*args.rounds, res

def kills(bench, folder, args):
    "SIGKILL at random moments of real runs"
    from woofbench.commands.cli import main
    def command(out): return f'run --dataset digits --epochs 1 --size 16 --seeds {len(SEEDS)} --out {out}'.split()
    start = time.monotonic()
    assert apart(main, command(folder/'whole'))==0
    whole,want,res = time.monotonic()-start,numbers(folder/'whole')[0],[]
    tries = 0
    while len(res)<args.kills:
        tries += 1
        out = folder/f'killed-{tries}'
        def first(out=out):
            pid = begin(main, command(out))
            time.sleep(random.uniform(.02, 1)*whole)
            os.kill(pid, signal.SIGKILL)
            return end(pid)
        code = first()
        if code!=-signal.SIGKILL: continue # it was faster
        if random.random()<.3: first() # and again
        then = apart(main, command(out))
        res.append((code, [], ([f'exit {then}'] if then else []) + wrong(out, want)))
        if res[-1][2]: print(out, res[-1], [o.name for o in out.rglob('seed-*')], file=sys.stderr)
    yield f'killed at a random moment of {whole:.1f} s', len(res), res


def table(rows):
    "Lines of a Markdown table"
    yield ('| fault | trials | went on all the same | ended with a sentence | broke off | silently wrong '
           '| wrong after the same command |')
    yield '| --- | --- | --- | --- | --- | --- | --- |'
    for name,n,res in rows:
        ok,told = sum(c==0 for c,_,_ in res),sum(c==2 for c,_,_ in res)
        lies,end = [o for _,a,_ in res for o in a],[o for _,_,b in res for o in b]
        later = f'{len(end)} {" ".join(sorted(set(end)))}'
        yield f'| {name} | {n} | {ok} | {told} | {len(res)-ok-told} | {len(lies)} | {later} |'

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('which', nargs='*', default=list(ALL), help=f'which of {", ".join(ALL)} [all]')
    p.add_argument('--kills', type=int, default=30, help='how many kills [30]')
    p.add_argument('--rounds', type=int, default=20,
                   help='how many rounds of eight writers, each with and without equal process ids [20]')
    p.add_argument('--seed', type=int, default=0, help='of the random moments [0]')
    args = p.parse_args()
    if bad := set(args.which)-set(ALL): p.error(f'{", ".join(bad)}: take some of {", ".join(ALL)}')
    import torch
    torch.set_num_threads(1) # a process with more threads cannot be forked
    random.seed(args.seed)
    bench,rows = Bench(),[]
    for k in args.which:
        folder = Path(tempfile.mkdtemp(prefix=f'faults-{k}-'))
        for o in ALL[k](bench, folder, args):
            rows.append(o)
            print('\n'.join(table([o])), flush=True)
        shutil.rmtree(folder, ignore_errors=True)
    print('\n' + '\n'.join(table(rows)))
    return int(any(a or b for _,_,res in rows for _,a,b in res))

ALL = dict(crashes=crashes, writers=writers, disk=disk, kills=kills)

if __name__=='__main__': sys.exit(main())
