__version__ = "0.2.0"

import warnings
warnings.filterwarnings('ignore', r'.torch\.jit\.\w+. is deprecated') # fastai uses it: in a notebook, your first row would begin with a red box

_lazy = {name:module for module,names in {
    'commands.run': 'run learner',
    'commands.prepare': 'plan',
    'data.track': 'Track datasets',
    'train.recipe': 'Recipe recipes',
    'models.spec': 'XResNetSpec TimmSpec archs change',
    'registry': 'BadInput Param',
    'train.imports': 'import_parts',
    'lessons': 'lesson_size project_board sample_photos',
    'commands.ablate': 'ablate',
    'commands.compare': 'compare',
    'commands.tune': 'tune',
    'commands.sweep': 'sweep',
    'commands.new': 'new_board new_trick',
    'board.check': 'check_path',
    'board.stats.tests': 'summary smallest_effect',
    'board.stats.claims': 'seeds_needed',
    'commands.reproduce': 'reproduce challenge',
    'commands.submit': 'submit',
    'board.table': 'load_rows find_row',
    'board.leaderboard': 'leaderboard Row',
    'train.optim': 'opts scheds',
    'train.losses': 'losses',
    'train.groups': 'groups',
    'train.gradients': 'grads',
    'train.schedules': 'varies',
    'train.averages': 'averages',
    'data.augment': 'augs',
    'models.xresnet': 'build conv_path id_path',
    'models.costs': 'cost speeds',
    'tricks.attention_maps': 'attention_maps show_attention',
    'tricks.prune': 'prune',
    'models.parts': 'acts norms convs pools attns stems blocks heads inits',
}.items() for name in names.split()}
__all__ = list(_lazy)

def __getattr__(name):
    "Import a public name when it is first asked for: `import woofbench` itself costs nothing"
    import importlib
    if name not in _lazy: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    if _lazy[name].startswith('models.'): importlib.import_module(f'{__name__}.tricks') # registers all parts
    return getattr(importlib.import_module(f'{__name__}.{_lazy[name]}'), name)

def __dir__(): return sorted([*globals(), *__all__])

_stops = [] # when this program was given its first Ctrl-C

def stop_asked() -> bool:
    """Was this program given Ctrl-C? Python drops the KeyboardInterrupt where it comes while an object is freed, so a
    training asks before each batch"""
    return bool(_stops)

def _ctrl_c():
    """Let the first Ctrl-C stop the program, and those of the next five seconds do nothing, also in loader processes:
    it ends in order"""
    import os, signal, sys, threading, time
    if threading.current_thread() is not threading.main_thread(): return
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler: return
    me,usual = os.getpid(),sys.excepthook
    def excepthook(*args): # multiprocessing's threads, here and in loader processes, are left with broken connections
        if threading.current_thread() is threading.main_thread(): usual(*args)
    def stop(sig, frame):
        sys.excepthook = excepthook
        if os.getpid()!=me or _stops and time.monotonic()-_stops[0]<5: return
        if _stops: os._exit(130)
        _stops.append(time.monotonic())
        raise KeyboardInterrupt
    _stops.clear()
    signal.signal(signal.SIGINT, stop)

def main():
    "The program; Ctrl-C is answered even while PyTorch is being imported"
    _ctrl_c()
    try:
        from woofbench.commands.cli import main
        return main()
    except KeyboardInterrupt:
        import sys
        if sys.stderr: print('\nwoofbench: stopped', file=sys.stderr)
        return 130
