"""The least time that a row's multiply-adds take on a machine: 3 times the forward ones of every training image and 1
time those of every validation image, all epochs, at the rate of the best matrix product. Square products and those of
the network's own layers are tried, at the row's precision and with its threads; each counts with its median of five."""
import time
from statistics import median
import torch

SQUARES = (512, 1024, 2048, 4096)
KINDS = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)


def shapes(spec, size, bs, n_out=10):
    "(m, k, n) of the matrix products of a network's layers, forward, for a batch; none for grouped convolutions"
    from torch import nn
    from woofbench.models.xresnet import build, without_numbers
    found = set()
    def look(m, x, y):
        if isinstance(m, nn.Conv2d) and m.groups==1: found.add((y[:,0].numel(), m.weight[0].numel(), m.out_channels))
        if isinstance(m, nn.Linear): found.add((y[...,0].numel(), m.in_features, m.out_features))
    with without_numbers(), torch.no_grad():
        model = build(spec, n_out, size).eval()
        for m in model.modules(): m.register_forward_hook(look)
        model(torch.empty(bs, 3, size, size))
    return sorted(found)


def product(shape, kind, device, rounds=5):
    "Multiply-adds per second of one matrix product, the median of `rounds`"
    m,k,n = shape
    a,b = torch.randn(m, k, device=device).to(kind),torch.randn(k, n, device=device).to(kind)
    out,took = torch.empty(m, n, dtype=kind, device=device),[]
    for _ in range(rounds+1):
        if device.type=='cuda': torch.cuda.synchronize()
        t = time.perf_counter()
        torch.mm(a, b, out=out)
        if device.type=='cuda': torch.cuda.synchronize()
        took.append(time.perf_counter()-t)
    return m*k*n/median(took[1:]) # the first one prepares


def best(p, precision, device, squares=SQUARES):
    "The best rate of all shapes, multiply-adds per second, and its shape"
    tried = [(o,)*3 for o in squares] + shapes(p.recipe.model, p.track.size, p.recipe.bs, len(p.manifest.classes))
    with torch.no_grad(): rates = {o:product(o, KINDS[precision], device) for o in tried}
    shape = max(rates, key=rates.get)
    return dict(rate=rates[shape], shape=shape)


def work(macs, n, bs, n_val, epochs):
    "Multiply-adds of a seed: an incomplete last batch of training images is dropped"
    return macs*epochs*(3*(n//bs*bs)+n_val)
