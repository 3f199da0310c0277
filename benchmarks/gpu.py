"""Everything that needs a GPU, in order of value, inside a time budget: tests, equivalence, timings, rows, a search for
the strongest recipe and its confirmation.

    python -m benchmarks.gpu --data DIR --out OUT --minutes 9       # run it again, and it goes on where it was
    python -m benchmarks.gpu --toy --out OUT    # the same on any machine, on digits

What is to be run is in benchmarks/gpu_plan.py. Every finished piece is kept in OUT as `NAME.txt`, what it printed. A
piece that the budget cuts off, or that was killed, is begun again the next time with what is there: rows and searches
with the seeds that are done, the equivalence with its pairs. OUT/commit is laid out as the repository is: copy it over
a checkout to add rows and figures to it. """
import argparse, json, os, re, shutil, signal, subprocess, sys, time
from pathlib import Path
from benchmarks import gpu_plan as plan
from benchmarks.search import toy_fields

PY = [sys.executable, '-u']
CLI = [*PY, '-c', 'import sys; from woofbench.commands.cli import main; sys.exit(main(sys.argv[1:]))']


def row_command(a, size, epochs, engine, fields, official=True):
    "`woofbench run` for a row of the board"
    where = ['--dataset','imagewoof','--data',str(a.data)]
    if a.toy: where,size,epochs,fields = ['--dataset','digits'],plan.TOY['size'],plan.TOY['epochs'],toy_fields(fields)
    seeds = ['--seeds', '5' if official or not a.toy else '2'] + (['--official'] if official else [])
    return [*CLI, 'run', *where, '--size', str(size), '--epochs', str(epochs), '--engine', engine, *seeds, '--out',
            str(a.out/'board'), '--set', *fields.split()]


def bench(a, size, epochs, seeds, fields, *more):
    "`benchmarks.row`"
    what = ['--data',str(a.data),'--arch','xresnet50','--size',str(size),'--epochs',str(epochs)]
    if a.toy: what = ['--dataset','digits',*plan.TOY['bench'],*(['--size',str(size)] if size<64 else []),'--rounds','1',
                      '--squares','256']
    return [*PY, '-m', 'benchmarks.row', *what, '--seeds', str(min(seeds, 2) if a.toy else seeds), '--set',
            *fields.split(), *map(str, more)]


def pieces(a):
    "(name, command) of every piece, most valuable first; the command is None where a search has to be finished before"
    res,mish = a.out/'results','' if a.toy else plan.LADDER['mish'] + ' '
    fields = f'{mish}{plan.FAST}'
    rows = {k:row_command(a, *v) for k,v in plan.ROWS.items()}
    def module(name, *args): return [*PY, '-m', f'benchmarks.{name}', *map(str, args)]
    yield 'tests', [*PY, '-m', 'pytest', '-q', '-m', 'cuda', '-rs', 'tests']
    yield 'equivalence', module('equivalence', '--out', res/'equivalence-gpu.csv',
                                *(['--seeds', 2, '--epochs', 1] if a.toy else []))
    yield 'profile', bench(a, 128, 5, 0, fields, '--profile', '--ways', 'script', 'fast')
    yield 'row', bench(a, 128, 5, 5, fields, '--out', res/'row-gpu.csv')
    yield from rows.items()
    if not a.toy:
        yield from ((k, [*row_command(a, size, epochs, 'fast', fields), *more]) for k,
                    (size,epochs,more) in plan.SETTINGS.items())
    for name,trick in plan.PRICES.items():
        name = f'price-{"-".join(re.findall("[a-z0-9]+", name))}'
        yield name, bench(a, 128, 1, 2, f'{fields} {trick}', '--rounds', 1, '--ways', 'fast', '--out',
                          res/f'{name}.csv')
    for size,bs in plan.TOY['growth'] if a.toy else plan.GROWTH:
        yield f'growth-{size}-bs{bs}', bench(a, size, 1, 2, f'{fields} bs={bs}', '--rounds', 2, '--ways', 'fast',
                                             '--out', res/f'growth-{size}-bs{bs}.csv')
    for name,*_ in plan.SEARCHES:
        ready = name=='search-5' or (a.out/'search-5.json').exists()
        yield name, module('search', name, '--out', a.out,
                           *(['--toy'] if a.toy else ['--data', a.data])) if ready else None
        for row,search,size,n in plan.CONFIRM:
            found = a.out/f'{search}.json'
            if search==name:
                yield row, row_command(a, size, n, 'fast',
                                       f'{json.loads(found.read_text())["winner"]["fields"]} '
                                       f'{plan.FAST}') if found.exists() else None


def collect(a):
    "Everything that is to be committed, in one folder"
    for src,dst in ((a.out/'board'/'records', 'records'), (a.out/'results', 'benchmarks/results')):
        if src.is_dir(): shutil.copytree(src, a.out/'commit'/dst, dirs_exist_ok=True)
    for o in a.out.glob('search-*.json'): shutil.copy(o, a.out/'commit'/'benchmarks'/'results'/o.name)


def call(cmd, path, seconds):
    "Exit code of `cmd`, None if it was cut off; what it prints goes to `path`. Whatever it started ends with it"
    with path.open('w') as f:
        p = subprocess.Popen(cmd, stdout=f, stderr=subprocess.STDOUT, start_new_session=True)
        try: return p.wait(seconds)
        except subprocess.TimeoutExpired: return None
        finally:
            try: os.killpg(p.pid, signal.SIGKILL)
            except ProcessLookupError: pass
            p.wait()


def go(a, say=print):
    "Run what is not there yet while there is time; the number of pieces that are not done"
    end,left = time.time()+60*a.minutes,0
    todo = pieces(a)
    for name,cmd in todo:
        if a.only and name not in a.only: continue
        done,part = a.out/f'{name}.txt',a.out/f'{name}.part'
        if done.exists():
            say(f'{name:20} is there')
            continue
        left += 1
        if cmd is None:
            say(f'{name:20} waits for its search')
            continue
        if (seconds := end-time.time()) < 5:
            say(f'{name:20} next time')
            continue
        t = time.time()
        rc = call(cmd, part, seconds)
        lines = part.read_text(errors='replace').strip().splitlines() or ['']
        tail = next((o for o in reversed(lines) if '±' in o), lines[-1])[-130:] # the row, if there is one
        if rc in (0, 5) or name=='tests' and rc is not None: # 5: no test was selected; failed tests are a result
            part.rename(done)
            left -= 1
        say(f'{name:20} {time.time()-t:7.1f} s  '
            f'{"cut off" if rc is None else "done" if done.exists() else f"exit {rc}"}  {tail}')
        collect(a)
    return left


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--data', type=Path, help='folder of Imagewoof')
    p.add_argument('--out', type=Path, required=True, help='folder for what is finished')
    p.add_argument('--minutes', type=float, default=9., help='stop after so many')
    p.add_argument('--only', nargs='+', help='these pieces only')
    p.add_argument('--toy', action='store_true', help='digits, for a try on any machine')
    a = p.parse_args()
    if not (a.toy or a.data): p.error('--data DIR or --toy')
    for o in ('results','commit/benchmarks/results'): (a.out/o).mkdir(parents=True, exist_ok=True)
    import torch
    from woofbench.train.machine import device_name
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    start = time.time()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)) # so that what was started ends too
    print(f'{device_name(device)}, torch {torch.__version__}, {os.cpu_count()} cores; '
          f'{"toy, " if a.toy else ""}{a.minutes:g} minutes', flush=True)
    left = go(a, lambda line: print(line, flush=True))
    print(f'{time.time()-start:.0f} s; {f"{left} pieces are left" if left else "everything is done"}; to commit: '
          f'{a.out/"commit"}')


if __name__=='__main__': main()
