"""A training step with and without `kept_memory`, in turns: two processes, each of which waits while the other works.

    python -m benchmarks.memory --arch xresnet18 --size 128 --precision fp32
"""
import argparse, subprocess, sys
from contextlib import nullcontext
from statistics import median


def child(a):
    "Train a step for each line of the standard input; print its seconds, and at the end the highest memory in MiB"
    import resource, torch
    from benchmarks.trick_effects import Step
    from woofbench.fast.memory import kept_memory
    step = Step(f'act=mish precision={a.precision} channels_last=true', a.size, a.bs, a.arch)
    with kept_memory(torch.device('cpu')) if a.child=='kept' else nullcontext():
        for _ in sys.stdin: print(step(1), flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024, flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--arch', default='xresnet18')
    p.add_argument('--size', type=int, default=128, help='side of the images, px')
    p.add_argument('--bs', type=int, default=64)
    p.add_argument('--precision', default='fp32', choices=('fp32','bf16'))
    p.add_argument('--rounds', type=int, default=6)
    p.add_argument('--child', choices=('usual','kept'), help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child: return child(a)
    cmd = [sys.executable, '-m', 'benchmarks.memory', *sys.argv[1:], '--child']
    both = [subprocess.Popen([*cmd, o], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for o in ('usual','kept')]
    def one(proc):
        print('go', file=proc.stdin, flush=True)
        return float(proc.stdout.readline())
    times = [[one(o) for o in both] for _ in range(a.rounds+1)][1:] # the first one prepares
    for o in both: o.stdin.close()
    peaks = [float(o.stdout.readline()) for o in both]
    x = [kept/usual for usual,kept in times]
    print(f'{a.arch} {a.size} px {a.precision}: kept/usual {median(x):.2f} ({min(x):.2f} to {max(x):.2f}), '
          f'{1e3*median(t for t,_ in times):.0f} and {1e3*median(t for _,t in times):.0f} ms, '
          f'highest memory {peaks[0]:.0f} and {peaks[1]:.0f} MiB')


if __name__=='__main__': main()
