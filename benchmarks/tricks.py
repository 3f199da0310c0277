"""What every trick of the catalogue costs, alone on a baseline: counts, and speeds timed in turns with that baseline.

    python benchmarks/tricks.py            # about fifteen minutes on two cores; writes benchmarks/results/tricks.csv

Parts are found in the registries, so a new trick is in the table without a line here. Nothing else heavy should run
meanwhile. """
import argparse
import csv
import gc
from pathlib import Path
import torch
import woofbench.tricks  # noqa: F401  registers all tricks
from woofbench.models.costs import act_memory, cost, speeds
from woofbench.models.parts import slots
from woofbench.train.machine import device_name
from woofbench.models.spec import XResNetSpec, archs, change

once = ('simple_sa','simple_sa_sym','self_attention') # at the end of the first stage only, as everybody has used them
columns = 'trick changes params macs memory train train_x train_lo train_hi infer infer_x infer_lo infer_hi'.split()


def tricks():
    "(name, changes) of every part that is not the baseline's, and of some that go together"
    base = XResNetSpec()
    for kind,reg in slots.items():
        for name,part in reg.items():
            fields = dict(pool=('pool','stem_pool'), attn=('sa' if name in once else 'attn',)).get(kind, (kind,))
            changes = dict.fromkeys(fields, name) | getattr(part, 'goes_with', {})
            if change(base, **changes)!=base: yield f'{kind} {name}', changes
    yield 'blur down', dict(down='blur')
    yield 'xresnet50 trick', dict(stem_szs=(32,64,64), block='reduce_first', pool='max_blur', stem_pool='max_blur',
                                  act='mish', sa='simple_sa')
    for m in (2,4,6):
        yield f'depthwise x{m}', dict(arch='xresnet_dw', block=f'dw_x{m}', stem=f'dw_x{m}', pool='max_blur', act='mish',
                                      sa='simple_sa')
    for name in ('tresnet_m','timm:tresnet_m','tresnet_l','tresnet_xl','selecsls42','selecsls42b','selecsls60',
                 'selecsls60b','selecsls84'):
        if name in archs.names('timm'): yield name, dict(arch=name)


def row(name, changes, size, bs, rounds):
    "One line of the table"
    base,spec = XResNetSpec(),change(XResNetSpec(), **changes)
    c = cost(spec, size)
    s = speeds([base, spec], size, bs, rounds)[1]
    flat = {k+end:f'{v:.3f}' for k in s for end,v in zip(('','_x','_lo','_hi'), s[k])}
    text = ' '.join(f'{k}={",".join(map(str, v)) if isinstance(v, tuple) else v}' for k,v in changes.items())
    return dict(trick=name, changes=text, params=c['params'], macs=c['macs'], memory=act_memory(spec, size)) | flat


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--size', type=int, default=128)
    p.add_argument('--bs', type=int, default=8)
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--out', type=Path, default=Path(__file__).parent/'results'/'tricks.csv')
    a = p.parse_args()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    with a.out.open('w', newline='') as f:
        f.write(f'# xresnet50, {a.size} px, batches of {a.bs}, fp32, {a.rounds} rounds; {device_name(device)}, torch '
                f'{torch.__version__}\n')
        w = csv.DictWriter(f, columns, lineterminator='\n')
        w.writeheader()
        base = XResNetSpec()
        b = speeds([base, base], a.size, a.bs, a.rounds)[1]
        w.writerow(dict(trick='xresnet50', params=cost(base, a.size)['params'], macs=cost(base, a.size)['macs'],
                        memory=act_memory(base, a.size)) |
                   {k+end:f'{v:.3f}' for k in b for end,v in zip(('','_x','_lo','_hi'), b[k])})
        for name,changes in tricks():
            w.writerow(o := row(name, changes, a.size, a.bs, a.rounds))
            f.flush()
            print(f'{name:24} {o["params"]/1e6:7.2f} M {o["macs"]/1e9:.3f} G  train x{float(o["train_x"]):.2f}  infer '
                  f'x{float(o["infer_x"]):.2f}', flush=True)
            gc.collect()


if __name__=='__main__': main()
