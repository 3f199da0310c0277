"""A row by fastai's own way, by timm's and by woofbench's engines, in turns on the same machine and images: seconds,
images per second, memory, accuracy.

    python -m benchmarks.row --data DIR                               # xresnet18, 64 px, five seeds of five epochs
    python -m benchmarks.row --data DIR --arch xresnet50 --size 128 \\
        --set act=mish sa=simple_sa precision=bf16 channels_last=true
    python -m benchmarks.row --data DIR --seeds 0 --rounds 9          # the loaders alone
    python -m benchmarks.row --data DIR --profile                     # where the time goes, no row

Every way has a process of its own, which trains one seed when it is its turn and waits while the others do, so whatever
else the machine does meets all of them alike. Nothing is extrapolated: what is printed as a row is that many seeds.
`cold` begins with the start of the process; `warm` is the seeds after the first, each with validation after every
epoch; `train` is training alone. """
import argparse, csv, json, os, subprocess, sys, time
from functools import partial
from pathlib import Path
from statistics import median

START = time.perf_counter()


# A way in its own process

def child(a):
    "Do what is asked on the standard input, a line each; answer with a line of JSON each"
    out = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1) # whatever else is printed is no answer
    import torch
    from benchmarks.ways import loader, profile, rate, train
    from woofbench.commands.prepare import plan
    device = torch.device(a.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    imports = time.perf_counter()-START
    p = plan(a.dataset, a.size, a.epochs, data=a.data, recipe=a.recipe, **fields(a))
    verified = time.perf_counter()-START-imports
    t = time.perf_counter()
    reuse = None
    if a.way=='fast':
        from woofbench.train.reuse import Reuse
        from woofbench.train.learner import images_of
        from woofbench.train.machine import Machine
        images_of(p, Machine(device, engine='fast'))
        reuse = Reuse()
    def say(o): print(json.dumps(o), file=out, flush=True)
    from woofbench.train.machine import device_name
    say(dict(imports=imports, verify=verified, images=time.perf_counter()-t, cuda=device.type=='cuda',
             device=device_name(device), torch=torch.__version__, n=len(p.manifest.train), bs=p.recipe.bs,
             n_val=len(p.manifest.val), recipe=str(p.recipe), track=str(p.track)))
    for line in sys.stdin:
        what,seed = line.split()
        do = dict(train=partial(train, reuse=reuse), loader=loader, profile=profile)
        say(rate(p, a.way, device, a.squares) if what=='rate' else do[what](p, a.way, int(seed), device))


def fields(a):
    "Fields of the recipe from the flags"
    from woofbench.train.recipe import parse
    kw = dict(o.split('=', 1) for o in a.set)
    return dict(arch=a.arch) | {k:parse(k, v) for k,v in kw.items()}


# All of them in turns

class Way:
    "A child process that answers"
    def __init__(self, name, argv):
        self.name,self.seeds,self.loads,self.device,self.t = name,[],[],{},time.perf_counter()
        self.rates,self.parts = [],{}
        self.p = subprocess.Popen([sys.executable, '-m', 'benchmarks.row', *argv, '--way', name], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        self.facts = self.hear()
        self.start = time.perf_counter()-self.t
    def hear(self):
        line = self.p.stdout.readline()
        if not line: raise SystemExit(f'{self.name} stopped; its message is above')
        return json.loads(line)
    def ask(self, what, seed=0):
        print(what, seed, file=self.p.stdin, flush=True)
        return self.hear()
    def close(self):
        self.p.stdin.close()
        self.p.wait()


def spread(xs):
    "Median and range"
    return f'{median(xs):.2f} ({min(xs):.2f}-{max(xs):.2f})'


def figures(w, ref):
    "What the seeds of a way say"
    from woofbench.board.row import rates
    s,f,rest = w.seeds,w.facts,w.seeds[1:] or w.seeds
    def total(k): return round(sum(e[k] for o in rest for e in o['curve'])/len(rest), 3)
    train_img_s,eval_img_s = rates([e for o in s for e in o['curve']], f['n'], f['bs'], f['n_val'])
    return dict(cold_row_s=round(w.start+sum(o['seconds'] for o in s), 2),
                warm_seed_s=round(sum(o['seconds'] for o in rest)/len(rest), 3), train_s=total('train_s'),
                eval_s=total('eval_s'),
                train_img_s=round(train_img_s, 1), eval_img_s=round(eval_img_s, 1),
                faster=spread([b['seconds']/o['seconds'] for b,o in zip(ref.seeds, s)]))


def limit(w):
    "The bound of a warm seed, and its seconds over that"
    if not w.rates or w.rates[0]['work'] is None: return {}
    top = max(w.rates, key=lambda o: o['rate'])
    bound,rest = top['work']/top['rate'],w.seeds[1:] or w.seeds
    return dict(precision=top['precision'], best_gflops=round(2*top['rate']/1e9, 1), bound_s=float(f'{bound:.3g}'),
                over_bound=spread([o['seconds']/bound for o in rest]))


def where(w):
    "Where the time of a warm seed goes, in percent of it"
    rest = w.seeds[1:] or w.seeds
    whole = sum(o['seconds'] for o in rest)
    train,val = (sum(e[k] for o in rest for e in o['curve'])/whole for k in ('train_s','eval_s'))
    step = sum(w.parts.values())
    return {k:100*train*v/step for k,v in w.parts.items()} | dict(validation=100*val, preparation=100*(1-train-val))


def say_limits(ways):
    "What the products alone would take, and where the rest goes"
    for w in ways:
        if not (o := limit(w)): continue
        shape = 'x'.join(map(str, max(w.rates, key=lambda o: o['rate'])['shape']))
        print(f'{w.name}: at the best matrix product ({o["precision"]}, {shape}, {o["best_gflops"]:g} GFLOP/s) its '
              f'multiply-adds take {o["bound_s"]:g} s a seed; a warm seed takes {o["over_bound"]} times as long')
        if w.parts: print('  of it: ' + ', '.join(f'{k} {v:.0f} %' for k,v in where(w).items()))


def lines(ways):
    "The table: a dictionary per way"
    ref = ways[0]
    for w in ways:
        loads = dict(loader_img_s=round(median(w.loads)),
                     loader_faster=spread([o/b for b,o in zip(ref.loads, w.loads)])) if w.loads else {}
        start = dict(start_s=round(w.start, 2), images_s=round(w.facts['images'], 2))
        if not w.seeds:
            yield dict(way=w.name) | loads | w.device | start
            continue
        acc = ' '.join(f'{o["acc"]:.2f}' for o in w.seeds)
        end = dict(mem_mb=max(o['mem_mb'] for o in w.seeds), acc=acc)
        yield dict(way=w.name) | figures(w, ref) | limit(w) | loads | w.device | start | end


def show(rows):
    cols = list(rows[0])
    wide = [max(len(str(r[c])) for r in [dict(zip(cols, cols)), *rows]) for c in cols]
    for r in [dict(zip(cols, cols)), *rows]: print('  '.join(str(r[c]).ljust(n) for c,n in zip(cols, wide)).rstrip())


def command(a):
    "What to type for the same again, with DIR for the folder of the images"
    return (f'--data DIR --dataset {a.dataset} --size {a.size} --epochs {a.epochs} '
            f'--seeds {a.seeds} --rounds {a.rounds} --arch {a.arch} --ways {" ".join(a.ways)} '
            f'--set {" ".join(a.set)}')


def measure(ways, a):
    "Loaders, seeds and, on a GPU, kernels, of all ways in turns"
    def turns(i): return ways[::1 if i%2==0 else -1] # there and back, so that no way is always first
    def rates():
        if a.seeds and a.squares[0]:
            for w in ways: w.rates.append(w.ask('rate'))
    rates()
    for i in range(a.rounds):
        for w in turns(i): w.loads.append(w.ask('loader', i)['loader'])
    for seed in range(a.seeds):
        for w in turns(seed):
            w.seeds.append(w.ask('train', seed))
            print(f'seed {seed}  {w.name:8} {w.seeds[-1]["seconds"]:7.1f} s  {w.seeds[-1]["acc"]:.2f} %', flush=True)
    rates()
    for w in ways:
        if not (w.facts['cuda'] or w.rates): continue
        o = w.ask('profile')
        if w.facts['cuda']: w.device = dict(kernels=round(o['kernels']), busy=round(o['busy'], 2))
        elif w.name!='timm': w.parts = o['parts']


def main():
    from benchmarks.ways import DIFFERENCES, PUBLISHED, WAYS
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--data', help="folder of the dataset; $WOOFBENCH_DATA if none")
    p.add_argument('--dataset', default='imagewoof')
    p.add_argument('--size', type=int, default=64)
    p.add_argument('--epochs', type=int, default=5)
    p.add_argument('--seeds', type=int, default=5, help='0: only the loaders')
    p.add_argument('--rounds', type=int, default=5, help='epochs of batches with nothing done to them, of every way')
    p.add_argument('--arch', default='xresnet18')
    p.add_argument('--recipe', default=None, help="preset; the dataset's usual one if none")
    p.add_argument('--set', nargs='+', default=['precision=bf16','channels_last=true'], metavar='FIELD=VALUE',
                   help='fields of the recipe; script and tuned have their own precision and memory format')
    p.add_argument('--ways', nargs='+', default=['script','tuned','timm','fast'], choices=list(WAYS),
                   help='; '.join(f'{k}: {v}' for k,v in WAYS.items())
                   + '. The first is what the others are compared with')
    p.add_argument('--squares', nargs='+', type=int, default=[512,1024,2048,4096], metavar='SIDE',
                   help='sides of square matrix products, for the bound of the time; 0: no bound')
    p.add_argument('--device')
    p.add_argument('--profile', action='store_true', help='where the time of a training step goes')
    p.add_argument('--out', type=Path, help='CSV file; printed only if none')
    p.add_argument('--way', choices=list(WAYS), help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.way: return child(a)
    argv = [o for o in sys.argv[1:] if o!='--profile']
    ways = [Way(o, argv) for o in a.ways]
    f = ways[-1].facts
    print(f'{f["track"]}: {f["recipe"]}; {f["n"]} training and {f["n_val"]} validation images; {f["device"]}, torch '
          f'{f["torch"]}\n')
    if a.profile:
        for w in ways:
            o = w.ask('profile')
            print(f'{w.name}: {o["step_ms"]:.1f} ms a step, {o["kernels"]:.0f} kernels or operations, device busy '
                  f'{100*o["busy"]:.0f} %')
            for name,ms in o['top']: print(f'  {ms:8.2f} ms  {name[:90]}')
    else:
        measure(ways, a)
        rows = list(lines(ways))
        print()
        say_limits(ways)
        other = [f'{w.name} ({w.rates[0]["precision"]})' for w in ways
                 if w.rates and w.rates[0]['precision']!=ways[0].rates[0]['precision']]
        if other: print(f'The column faster is not at equal precision for {", ".join(other)}: {ways[0].name} has '
                        f'{ways[0].rates[0]["precision"]}')
        if a.seeds: print((f'{DIFFERENCES}\n' if 'timm' in a.ways else '') + f'{PUBLISHED}\n')
        show(rows)
        if a.out:
            a.out.parent.mkdir(parents=True, exist_ok=True)
            with a.out.open('w', newline='') as o:
                o.write(f'# {f["track"]}: {f["recipe"]}; {f["n"]} training and {f["n_val"]} validation images; '
                        f'{f["device"]}, torch {f["torch"]}; python -m benchmarks.row {command(a)}\n')
                w = csv.DictWriter(o, list(rows[0]), lineterminator='\n')
                w.writeheader()
                w.writerows(rows)
    for w in ways: w.close()


if __name__=='__main__': main()
