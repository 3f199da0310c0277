"""What a trick of training is worth at one small cell: the same seeds with it and without it, in turns.

    WOOFBENCH_DATA=DIR python -m benchmarks.trick_effects ranger muon-0.03 ...   # again goes on
    python -m benchmarks.trick_effects best best-without-sa ... --out FILE      # parts of the best row
    python -m benchmarks.trick_effects growing growing-without-sa ... --size 64 --out FILE # at 64 px
    python -m benchmarks.trick_effects --show [--base best --out FILE]
    python -m benchmarks.trick_effects --price ranger muon-0.03 ... # seconds of a step in turns, and memory

The cell: Imagewoof, 32 px (or --size) from 192 px files, xresnet10_tiny with Mish, 5 epochs, exploration seeds. A line
of the result is one seed of one recipe: right answers, and seconds of training and validation. Seeds that are there
already are not trained again, so delete the lines of a recipe when its code has changed. """
import argparse, csv
from pathlib import Path
from statistics import mean, median, stdev
from time import perf_counter

CELL = dict(dataset='imagewoof', size=32, epochs=5, source='192')
BASE = dict(recipe='official', arch='xresnet10_tiny', act='mish', lr=2e-2)
OUT = Path(__file__).parent/'results'/'trick-effects.csv'
COLUMNS = 'name fields seed correct n_val train_s eval_s'.split()
RECIPES = { # what differs from BASE
    'ranger': '',
    'muon-0.01': 'opt=muon lr=0.01 mom=0.6',
    'muon-0.03': 'opt=muon lr=0.03 mom=0.6',
    'muon-0.1': 'opt=muon lr=0.1 mom=0.6',
    'muon-0.03-lookahead': 'opt=muon lr=0.03 mom=0.6 opt_lookahead=true opt_rest=radam',
    'schedule-free': 'opt=schedule_free lr=0.01 sched=warm_flat',
    'dirac': 'init=dirac',
    'norm-bias-8': 'group=norm_bias group_rate=8',
    'warm-cosine': 'sched=warm_cosine',
    'drop-path-0.1': 'block=drop_path',
    'tail': 'average=tail',
    'wd-cosine': 'vary=wd',
    'bce': 'loss=bce',
    'mix': 'aug=mix',
    'alternate-flip': 'aug=alternate_flip flip=0',
    'whitening-signs': 'stem=whitening_signs',
    'trivial': 'aug=trivial',
    'rand': 'aug=rand',
    'clip': 'grad=clip',
    'accumulate': 'grad=accumulate',
    'mom-cosine': 'vary=mom',
}
# The parts of the preset muon_whitening, all of them and without one; images of 32 px cannot grow, those of 64 px can
BEST = dict(sa='simple_sa', pool='max_blur', block='reduce_first', stem='whitening_signs', opt='muon', lr=.042, mom=.6)
WITHOUT = dict(sa=dict(sa='none'), blur=dict(pool='avg'), reduce=dict(block='res'), whitening=dict(stem='conv3'),
               muon=dict(opt='ranger', lr=.02, mom=.9))
def without(name, fields, changes):
    "The recipe of `fields` and those with one of `changes`, by name"
    return {k:' '.join(f'{a}={b}' for a,b in (fields|o).items())
            for k,o in ((name, {}), *((f'{name}-without-{k}', o) for k,o in changes.items()))}
RECIPES |= without('best', BEST, WITHOUT)
RECIPES |= without('growing', BEST|dict(progressive=.5), WITHOUT|dict(growth=dict(progressive=1)))


def done(path):
    "The lines of a result"
    if not path.exists(): return []
    with path.open() as f: return [*csv.DictReader(o for o in f if not o.startswith('#'))]


def changes(text):
    "Fields of a recipe from `FIELD=VALUE ...`"
    from woofbench.train.recipe import parse
    return {k:parse(k, v) for k,v in (o.split('=', 1) for o in text.split())}


def train(name, seed, job):
    "One line of the result"
    from woofbench.train.learner import fit
    from woofbench.train.machine import Machine
    r = fit(job, seed, Machine(device='cpu', engine='fast'))
    seconds = {k:round(sum(o[k] for o in r.curve), 2) for k in ('train_s','eval_s')}
    return dict(name=name, fields=RECIPES[name], seed=seed, correct=r.correct, n_val=job.n_val) | seconds


def measure(names, seeds, path, size):
    "Train what is not there yet, seed by seed, all recipes in turns, with images of `size` px"
    import torch
    from woofbench.commands.prepare import plan
    from woofbench.train.machine import device_name
    have = {(o['name'], int(o['seed'])) for o in done(path)}
    jobs = {o:plan(**CELL | dict(size=size), **BASE | changes(RECIPES[o])) for o in names}
    new = not path.exists()
    with path.open('a', newline='') as f:
        if new: f.write(f'# Imagewoof, {size} px from 192, 5 epochs, xresnet10_tiny and Mish, fast engine, fp32; '
                        f'{device_name("cpu")}, torch {torch.__version__}; other work ran beside it\n')
        w = csv.DictWriter(f, COLUMNS, lineterminator='\n')
        if new: w.writeheader()
        for seed in seeds:
            for name in names:
                if (name, seed) in have: continue
                w.writerow(o := train(name, seed, jobs[name]))
                f.flush()
                print(*o.values(), flush=True)


def effects(rows, base='ranger', level=.95):
    "By name: (seeds, mean difference to the base on the same seeds, half width of its interval, seconds of a seed)"
    from scipy.stats import t
    by = {}
    for o in rows: by.setdefault(o['name'], {})[int(o['seed'])] = o
    def points(o): return 100*int(o['correct'])/int(o['n_val'])
    res = {}
    for name,seeds in by.items():
        both = sorted(seeds.keys() & by[base].keys())
        d = [points(seeds[s])-points(by[base][s]) for s in both]
        half = t.ppf((1+level)/2, len(d)-1)*stdev(d)/len(d)**.5 if len(d)>1 else float('inf')
        res[name] = len(d), mean(points(o) for o in seeds.values()), mean(d), half, median(
            float(o['train_s']) for o in seeds.values())
    return res


class Step:
    "The training step of a recipe on one batch of noise: forward, loss, backward, optimiser"
    def __init__(self, text, size, bs, arch):
        import torch
        from woofbench.models.xresnet import build
        from woofbench.registry import using
        from woofbench.train.reuse import prepare
        from woofbench.train.losses import losses
        from woofbench.train.optim import opts
        from woofbench.train.recipe import recipes
        base = {k:v for k,v in BASE.items() if k!='recipe'} | dict(arch=arch)
        self.recipe = r = recipes(BASE['recipe'])().but(**base | changes(text))
        with using(dict(r.params)):
            self.model = prepare(build(r.model, 10, size), torch.device('cpu'))
            self.loss,opt = losses(r.loss)(r),opts(r.opt)(r)
            self.opt = opt([*self.model.parameters()], lr=r.lr)
        self.x,self.y = torch.randn(bs, 3, size, size),torch.arange(bs)%10
        self.low = torch.autocast('cpu', torch.bfloat16, enabled=r.precision=='bf16')
        if r.channels_last: self.model,self.x = (o.to(memory_format=torch.channels_last) for o in (self.model, self.x))

    def __call__(self, n):
        "Seconds of one of `n` steps"
        start = perf_counter()
        for _ in range(n):
            with self.low: loss = self.loss(self.model(self.x), self.y)
            loss.backward()
            self.opt.step()
            for p in self.model.parameters(): p.grad = None
        return (perf_counter()-start)/n

    def state(self):
        "Bytes that the optimiser keeps"
        import torch
        kept = [v for s in self.opt.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
        kept += [o for ps in getattr(self.opt, 'slow_weights', None) or [] for o in ps]
        return sum(o.numel()*o.element_size() for o in kept)


def price(names, path, arch, size, bs=64, rounds=9, steps=4):
    "Milliseconds of a step and their ratio to the first recipe, in turns; bytes of state and of activations"
    import numpy as np, torch
    from woofbench.models.costs import act_memory
    from woofbench.train.machine import device_name
    made = [Step(RECIPES[o], size, bs, arch) for o in names]
    t = np.array([[o(steps) for o in made] for _ in range(rounds+1)])[1:]
    new = not path.exists()
    with path.open('a', newline='') as f:
        if new: f.write(f'# A training step in turns, {rounds} rounds of {steps}, batches of {bs}, fast engine, fp32; '
                        f'{device_name("cpu")}, torch {torch.__version__}; other work ran beside it\n')
        w = csv.writer(f, lineterminator='\n')
        if new: w.writerow('name arch size step_ms x x_lo x_hi state_bytes activation_bytes'.split())
        for name,o,col in zip(names, made, t.T):
            x,lo,hi = np.quantile(col/t[:,0], (.5,.25,.75))
            row = [name, arch, size, f'{1e3*np.median(col):.1f}', *(f'{v:.3f}' for v in (x, lo, hi)), o.state(),
                   act_memory(o.recipe.model, size)]
            w.writerow(row)
            print(*row, flush=True)


def sentence(d, half):
    "What an interval of differences says, in points"
    if half==float('inf'): return f'{d:+.2f}, too few seeds for an interval'
    if abs(d)>half: return f'{d:+.2f} ({d-half:+.2f} to {d+half:+.2f})'
    return f'no effect larger than {max(abs(d-half), abs(d+half)):.1f} ({d-half:+.2f} to {d+half:+.2f})'


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('names', nargs='*', choices=[[], *RECIPES])
    p.add_argument('--seeds', type=int, default=5, help='exploration seeds, from 0')
    p.add_argument('--show', action='store_true', help='print the effects and train nothing')
    p.add_argument('--base', default='ranger', help='the recipe that the others are compared with')
    p.add_argument('--price', action='store_true', help='time steps in turns, the first recipe being the measure')
    p.add_argument('--arch', default=BASE['arch'], help='network to time')
    p.add_argument('--size', type=int, default=CELL['size'], help='side of the images, px')
    p.add_argument('--out', type=Path, default=OUT)
    a = p.parse_args()
    if a.price: return price(a.names, OUT.with_name('trick-prices.csv'), a.arch, a.size)
    if not a.show: return measure(a.names, range(a.seeds), a.out, a.size)
    for name,(n,points,d,half,s) in effects(done(a.out), a.base).items():
        print(f'{name:24} {n} seeds  {points:.2f} %  {sentence(d, half):44} {s:.0f} s')


if __name__=='__main__': main()
