"""A row by fastai's own way and by woofbench's engines, in turns on the same machine and images: seconds, images per second, memory, accuracy.

    python -m benchmarks.row --data DIR                               # xresnet18, 64 px, five seeds of five epochs
    python -m benchmarks.row --data DIR --arch xresnet50 --set act=mish sa=simple_sa --size 128
    python -m benchmarks.row --data DIR --profile                     # where the time goes, no row

Every way has a process of its own, which trains one seed when it is its turn and waits while the others do, so whatever else the machine does meets all of them alike. Nothing is extrapolated: what is
printed as a row is that many seeds. `cold` begins with the start of the process; `warm` is the seeds after the first, each with validation after every epoch; `train` is training alone.
"""
import argparse, csv, json, os, subprocess, sys, time
from functools import partial
from pathlib import Path
from statistics import median

START = time.perf_counter()
WAYS = {
    'script':  "fastai as its script has it: fp32, or fp16 on a GPU; NCHW",
    'tuned':   "the best that fastai can do unmodified: bf16 on a GPU; channels_last",
    'fastai':  "woofbench's reference engine with the row's own recipe",
    'fast':    "woofbench's fast engine with the row's own recipe",
}


# A way in its own process

def fastai_learner(p, seed, tuned, device):
    "Loaders, model and learner as fastai's examples make them, with the recipe's numbers"
    from fastai.callback.channelslast import ChannelsLast
    from fastai.callback.fp16 import MixedPrecision
    from fastai.callback.schedule import Learner
    from fastai.losses import LabelSmoothingCrossEntropy
    from fastai.metrics import accuracy, top_k_accuracy
    from fastai.optimizer import ranger
    from fastai.torch_core import set_seed
    from woofbench.data import make_loaders
    from woofbench.train import n_workers
    from woofbench.xresnet import build
    set_seed(seed, reproducible=True)
    r,cuda = p.recipe,device.type=='cuda'
    dls = make_loaders(p.manifest, p.track, r.bs, r.min_scale, r.flip, r.normalize, r.erase, n_workers(), device)
    model = build(r.model, len(p.manifest.classes), p.track.size)
    amp = [MixedPrecision(amp_mode='bf16' if tuned else 'fp16')] if cuda else []
    return Learner(dls, model, opt_func=partial(ranger, mom=r.mom, sqr_mom=r.sqr_mom, eps=r.eps), loss_func=LabelSmoothingCrossEntropy(eps=r.smooth), lr=r.lr, wd=r.wd,
                   metrics=[accuracy, partial(top_k_accuracy, k=5)], cbs=amp + ([ChannelsLast()] if tuned else []))


def make_timer():
    "A callback that keeps the seconds of every epoch's training and validation"
    from fastai.callback.core import Callback
    import torch
    class Timer(Callback):
        order = 90
        def now(self):
            if self.dls.device.type=='cuda': torch.cuda.synchronize()
            return time.perf_counter()
        def before_fit(self): self.train_s,self.eval_s = [],[]
        def before_train(self): self.t = self.now()
        def before_validate(self):
            self.train_s.append(self.now()-self.t)
            self.t = self.now()
        def after_validate(self): self.eval_s.append(self.now()-self.t)
    return Timer()


def train(p, way, seed, device, kept):
    "Seconds and accuracy of one seed; `kept` is what the fast engine keeps from seed to seed"
    from woofbench.train import fit
    t = time.perf_counter()
    if way in ('fastai','fast'):
        run = fit(p.track, p.recipe, p.manifest, seed, device=device, engine=way, kept=kept)
        train_s,eval_s,correct = sum(o['train_s'] for o in run.curve),sum(o['eval_s'] for o in run.curve),run.correct
    else:
        learn,timer = fastai_learner(p, seed, way=='tuned', device),make_timer()
        with learn.no_bar(), learn.no_logging(), learn.added_cbs([timer]): learn.fit_flat_cos(p.track.epochs, p.recipe.lr, wd=p.recipe.wd, pct_start=p.recipe.pct_start)
        train_s,eval_s,correct = sum(timer.train_s),sum(timer.eval_s),round(float(learn.recorder.values[-1][2])*len(p.manifest.val))
    return dict(seed=seed, seconds=time.perf_counter()-t, train_s=train_s, eval_s=eval_s, acc=100*correct/len(p.manifest.val), mem_mb=memory(device))


def memory(device):
    "Peak memory, MB: of the GPU, or of this process and its largest worker"
    import resource
    import torch
    if device.type=='cuda': return torch.cuda.max_memory_allocated()>>20
    return sum(resource.getrusage(o).ru_maxrss for o in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))>>10


def make(p, way, seed, device):
    "The learner of a way"
    from woofbench.train import make_learner
    return make_learner(p.track, p.recipe, p.manifest, seed, device=device, engine=way) if way in ('fastai','fast') else fastai_learner(p, seed, way=='tuned', device)


def epoch_of_batches(learn):
    "An iterator over one training epoch, as the learner would see it"
    from woofbench.fast import FastData
    learn.dl = learn.dls.train
    for cb in learn.cbs:
        if isinstance(cb, FastData): cb('before_train')
    return learn.dl


def loader(p, way, seed, device):
    "Images per second of an epoch of training batches, with nothing done to them"
    learn = make(p, way, seed, device)
    t,n = time.perf_counter(),0
    for x,_ in epoch_of_batches(learn): n += len(x)
    if device.type=='cuda':
        import torch
        torch.cuda.synchronize()
    return dict(loader=n/(time.perf_counter()-t))


def profile(p, way, seed, device, steps=6):
    "Kernels per step, share of the time that the device is busy, and the dearest operations"
    import torch
    from fastai.callback.core import Callback, CancelFitException
    from torch.profiler import ProfilerActivity
    learn = make(p, way, seed, device)
    prof = torch.profiler.profile(activities=[ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type=='cuda' else []))
    class Steps(Callback):
        order = 95
        def after_batch(self):
            if self.iter==steps-1:
                if self.dls.device.type=='cuda': torch.cuda.synchronize()
                prof.start(); self.t = time.perf_counter()
            if self.iter==2*steps-1:
                if self.dls.device.type=='cuda': torch.cuda.synchronize()
                self.wall = time.perf_counter()-self.t
                prof.stop()
                raise CancelFitException()
    cb,key = Steps(),'self_device_time_total' if device.type=='cuda' else 'self_cpu_time_total'
    with learn.no_bar(), learn.no_logging(), learn.added_cbs([cb]): learn.fit_flat_cos(1, p.recipe.lr)
    events = prof.key_averages()
    busy = sum(getattr(o, key) for o in events)/1e6
    kernels = sum(o.count for o in events if o.device_type==torch.autograd.DeviceType.CUDA) if device.type=='cuda' else sum(o.count for o in events)
    top = [(o.key, getattr(o, key)/1e3/steps) for o in sorted(events, key=lambda o: -getattr(o, key))[:15]]
    return dict(step_ms=cb.wall/steps*1e3, kernels=kernels/steps, busy=busy/cb.wall, top=top)


def child(a):
    "Do what is asked on the standard input, a line each; answer with a line of JSON each"
    out = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1) # whatever else is printed is no answer
    import torch
    from woofbench.runner import plan
    device = torch.device(a.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    imports = time.perf_counter()-START
    p = plan(a.dataset, a.size, a.epochs, data=a.data, recipe=a.recipe, **fields(a))
    verified = time.perf_counter()-START-imports
    t = time.perf_counter()
    if a.way=='fast':
        from woofbench.fast import load_images
        load_images(p.manifest, p.track, device)
    def say(o): print(json.dumps(o), file=out, flush=True)
    from woofbench.train import device_name
    say(dict(imports=imports, verify=verified, images=time.perf_counter()-t, device=device_name(device), torch=torch.__version__, n=len(p.manifest.train)//p.recipe.bs*p.recipe.bs, n_val=len(p.manifest.val), recipe=str(p.recipe), track=str(p.track)))
    from woofbench.reuse import Kept
    with Kept() as kept:
        for line in sys.stdin:
            what,seed = line.split()
            say(dict(train=partial(train, kept=kept), loader=loader, profile=profile)[what](p, a.way, int(seed), device))


def fields(a):
    "Fields of the recipe from the flags"
    from woofbench.recipe import parse
    kw = dict(o.split('=', 1) for o in a.set)
    return dict(arch=a.arch) | {k:parse(k, v) for k,v in kw.items()}


# All of them in turns

class Way:
    "A child process that answers"
    def __init__(self, name, argv):
        self.name,self.seeds,self.t = name,[],time.perf_counter()
        self.p = subprocess.Popen([sys.executable, '-m', 'benchmarks.row', *argv, '--way', name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts = self.hear()
        self.start = time.perf_counter()-self.t
    def hear(self):
        line = self.p.stdout.readline()
        if not line: raise SystemExit(f'{self.name} stopped; its message is above')
        return json.loads(line)
    def ask(self, what, seed=0):
        print(what, seed, file=self.p.stdin, flush=True)
        return self.hear()
    def close(self): self.p.stdin.close(); self.p.wait()


def spread(xs):
    "Median and range"
    return f'{median(xs):.2f} ({min(xs):.2f}-{max(xs):.2f})'


def lines(ways, epochs):
    "The table: a dictionary per way"
    ref = ways[0]
    for w in ways:
        s,f = w.seeds,w.facts
        rest = s[1:] or s
        yield dict(way=w.name, cold_row_s=round(w.start+sum(o['seconds'] for o in s), 2), warm_seed_s=round(sum(o['seconds'] for o in rest)/len(rest), 3), train_s=round(sum(o['train_s'] for o in rest)/len(rest), 3),
                   eval_s=round(sum(o['eval_s'] for o in rest)/len(rest), 3), train_img_s=round(f['n']*epochs*len(s)/sum(o['train_s'] for o in s), 1), eval_img_s=round(f['n_val']*epochs*len(s)/sum(o['eval_s'] for o in s), 1),
                   faster=spread([b['seconds']/o['seconds'] for b,o in zip(ref.seeds, s)]), loader_img_s=round(w.loader, 0), start_s=round(w.start, 2), images_s=round(f['images'], 2), mem_mb=max(o['mem_mb'] for o in s),
                   acc=' '.join(f'{o["acc"]:.2f}' for o in s))


def show(rows):
    cols = list(rows[0])
    wide = [max(len(str(r[c])) for r in [dict(zip(cols, cols)), *rows]) for c in cols]
    for r in [dict(zip(cols, cols)), *rows]: print('  '.join(str(r[c]).ljust(n) for c,n in zip(cols, wide)).rstrip())


def command(a):
    "What to type for the same again, with DIR for the folder of the images"
    return f'--data DIR --dataset {a.dataset} --size {a.size} --epochs {a.epochs} --seeds {a.seeds} --arch {a.arch} --ways {" ".join(a.ways)} --set {" ".join(a.set)}'


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--data', help="folder of the dataset; $WOOFBENCH_DATA if none")
    p.add_argument('--dataset', default='imagewoof')
    p.add_argument('--size', type=int, default=64)
    p.add_argument('--epochs', type=int, default=5)
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--arch', default='xresnet18')
    p.add_argument('--recipe', default=None, help="preset; the dataset's usual one if none")
    p.add_argument('--set', nargs='+', default=['precision=bf16','channels_last=true'], metavar='FIELD=VALUE', help='fields of the recipe; script and tuned have their own precision and memory format')
    p.add_argument('--ways', nargs='+', default=['script','tuned','fast'], choices=list(WAYS), help='; '.join(f'{k}: {v}' for k,v in WAYS.items()))
    p.add_argument('--device')
    p.add_argument('--profile', action='store_true', help='where the time of a training step goes')
    p.add_argument('--out', type=Path, help='CSV file; printed only if none')
    p.add_argument('--way', choices=list(WAYS), help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.way: return child(a)
    argv = [o for o in sys.argv[1:] if o!='--profile']
    ways = [Way(o, argv) for o in a.ways]
    f = ways[-1].facts
    print(f'{f["track"]}: {f["recipe"]}; {f["n"]} training and {f["n_val"]} validation images; {f["device"]}, torch {f["torch"]}\n')
    if a.profile:
        for w in ways:
            o = w.ask('profile')
            print(f'{w.name}: {o["step_ms"]:.1f} ms a step, {o["kernels"]:.0f} kernels or operations, device busy {100*o["busy"]:.0f} %')
            for name,ms in o['top']: print(f'  {ms:8.2f} ms  {name[:90]}')
    else:
        for w in ways: w.loader = max(w.ask('loader')['loader'] for _ in range(2))
        for seed in range(a.seeds):
            for w in ways[::1 if seed%2==0 else -1]: # there and back, so that no way is always first
                w.seeds.append(w.ask('train', seed))
                print(f'seed {seed}  {w.name:8} {w.seeds[-1]["seconds"]:7.1f} s  {w.seeds[-1]["acc"]:.2f} %', flush=True)
        rows = list(lines(ways, a.epochs))
        print()
        show(rows)
        if a.out:
            with a.out.open('w', newline='') as o:
                o.write(f'# {f["track"]}: {f["recipe"]}; {f["n"]} training images; {f["device"]}, torch {f["torch"]}; python -m benchmarks.row {command(a)}\n')
                w = csv.DictWriter(o, list(rows[0]), lineterminator='\n')
                w.writeheader()
                w.writerows(rows)
    for w in ways: w.close()


if __name__=='__main__': main()
