__version__ = "0.1.0"

_lazy = dict(run='runner', learner='runner', plan='runner', Row='leaderboard', Track='track', Recipe='recipe', XResNetSpec='xresnet', BadInput='registry')
__all__ = list(_lazy)

def __getattr__(name):
    "Import a public name when it is first asked for: `import woofbench` itself costs nothing"
    import importlib
    if name not in _lazy: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_lazy[name]}'), name)

def __dir__(): return sorted([*globals(), *__all__])

def main():
    "The program; Ctrl-C is answered even while PyTorch is being imported"
    try:
        from woofbench.cli import main
        return main()
    except KeyboardInterrupt:
        print('\nwoofbench: stopped')
        return 130
