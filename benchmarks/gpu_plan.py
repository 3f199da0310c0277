"""What is to be run on a GPU, as data: rows, candidates of the search, sizes. `benchmarks.gpu` runs it, in this
order."""

FAST = 'precision=bf16 channels_last=true'
LADDER = {                       # Imagewoof's 2020 recipe, a change at a time
    'baseline':      'act=relu',
    'mish':          'act=mish',
    'simple-sa':     'act=mish sa=simple_sa',
    'max-blur':      'act=mish sa=simple_sa pool=max_blur_2020 stem_pool=max_blur_2020',
    'reduce-first':  'act=mish sa=simple_sa pool=max_blur_2020 stem_pool=max_blur_2020 block=reduce_first '
                     'stem_szs=32,64,64',
}
BEST_2020 = LADDER['reduce-first']
DEPTHWISE = 'arch=xresnet_dw pool=max_blur_2020 act=mish sa=simple_sa'

# Newer tricks, as changes to another recipe; their sizes at a small cell are in benchmarks/results/trick-effects.csv
MUON = 'opt=muon lr=0.03 mom=0.6'
TRICKS = {
    'muon':            MUON,
    'muon, lookahead': f'{MUON} opt_lookahead=true opt_rest=radam',
    'schedule-free':   'opt=schedule_free lr=0.01 sched=warm_flat',
    'drop path':       'block=drop_path',
    'dirac':           'init=dirac',
    'norm biases x8':  'group=norm_bias group_rate=8',
    'warm cosine':     'sched=warm_cosine',
    'tail':            'average=tail',
    'decay falls':     'vary=wd',
    'bce':             'loss=bce',
    'mix':             'aug=mix',
    'alternate flip':  'aug=alternate_flip flip=0',
    'signs':           'stem=whitening_signs',
}

# name: (size, epochs, engine, fields). `mish` by both engines is fastai's own recipe, the one that a speed-up is
# measured with
ROWS = {
    'mish-fast':     (128, 5, 'fast', f'{LADDER["mish"]} {FAST}'),
    'mish-fastai':   (128, 5, 'fastai', f'{LADDER["mish"]} {FAST}'),
    'muon':          (128, 5, 'fast', f'{LADDER["mish"]} {MUON} {FAST}'),
    'muon-2020':     (128, 5, 'fast', f'{BEST_2020} {MUON} {FAST}'),
    'schedule-free': (128, 5, 'fast', f'{LADDER["mish"]} {TRICKS["schedule-free"]} {FAST}'),
    **{f'ladder-{k}': (128, 5, 'fast', f'{v} {FAST}') for k,v in LADDER.items() if k!='mish'},
    'twist':         (128, 5, 'fast', f'{BEST_2020} conv=twist {FAST}'),
    'depthwise-x4':  (128, 5, 'fast', f'{DEPTHWISE} block=dw_x4 stem=dw_x4 {FAST}'),
    'depthwise-x6':  (128, 5, 'fast', f'{DEPTHWISE} block=dw_x6 stem=dw_x6 {FAST}'),
}

# The same row by other settings of the fast engine: what do seeds at once and the compiler save?
SETTINGS = {'two-at-once':(128, 5, ['--seeds-at-once','2','--again']),
            'three-at-once':(128, 5, ['--seeds-at-once','3','--again']), 'compiled-20':(128, 20, ['--compile'])}

# The search. The first candidate is the row to beat: none that takes longer than it to train goes on
REFERENCE = f'{DEPTHWISE} block=dw_x6 stem=dw_x6'
CANDIDATES = {
    'reference':      REFERENCE,
    'depthwise-x4':   f'{DEPTHWISE} block=dw_x4 stem=dw_x4',
    '2020':           BEST_2020,
    'twist':          f'{BEST_2020} conv=twist',
    **{f'2020 lr {lr}': f'{BEST_2020} lr={lr}' for lr in ('4e-3','8e-3','2e-2')},
    '2020 mom .95':   f'{BEST_2020} mom=0.95 lr=8e-3',
    '2020 bs 32':     f'{BEST_2020} bs=32',
    '2020 bs 32 lr 5e-3': f'{BEST_2020} bs=32 lr=5e-3',
    '2020 bs 128 lr 2e-2': f'{BEST_2020} bs=128 lr=2e-2',
    '2020 pct .5':    f'{BEST_2020} pct_start=0.5',
    '2020 pct .6':    f'{BEST_2020} pct_start=0.6',
    '2020 one cycle': f'{BEST_2020} sched=one_cycle lr=1.5e-2 pct_start=0.3',
    '2020 wd 5e-2':   f'{BEST_2020} wd=5e-2',
    '2020 centralize': f'{BEST_2020} centralize=true',
    '2020 crop .25':  f'{BEST_2020} min_scale=0.25',
    '2020 crop .5':   f'{BEST_2020} min_scale=0.5',
    '2020 se':        f'{BEST_2020} attn=se',
    '2020 whitening': f'{BEST_2020} stem=whitening',
    '2020 ema .99':   f'{BEST_2020} ema=0.99',
    '2020 progressive, wider': f'{BEST_2020} progressive=0.5 widths=80,160,320,640',
    'wider, one less deep': f'{BEST_2020} depths=3,4,4,2 widths=80,160,320,512',
    'deeper, narrower': f'{BEST_2020} depths=3,6,9,3 widths=48,96,192,384',
    'early stages wider': f'{BEST_2020} widths=96,160,256,384',
    'xresnet34 wide': 'arch=xresnet34 widths=96,192,384,512 act=mish sa=simple_sa pool=max_blur_2020 '
                      'stem_pool=max_blur_2020 stem_szs=32,64,64',
    'depthwise x4 lr 8e-3, progressive': f'{DEPTHWISE} block=dw_x4 stem=dw_x4 lr=8e-3 progressive=0.75',
    **{f'2020 {k}':f'{BEST_2020} {v}' for k,v in TRICKS.items()},
    '2020 muon, signs': f'{BEST_2020} {MUON} {TRICKS["signs"]} lr=0.042', # the best of two searches on a processor
    '2020 muon, signs, growing': f'{BEST_2020} {MUON} {TRICKS["signs"]} lr=0.042 progressive=0.5',
    'depthwise x4 muon': f'{DEPTHWISE} block=dw_x4 stem=dw_x4 {MUON}',
    **{f'2020 muon lr {lr}': f'{BEST_2020} {MUON} lr={lr}' for lr in ('1e-2','6e-2')},
}
CHANGES_20 = {                   # to what won at five epochs, for twenty
    'same':           '',
    'mixup .2':       'mixup=0.2',
    'cutmix .5':      'cutmix=0.5',
    'erase .3':       'erase=0.3',
    'ema .999':       'ema=0.999',
    'lr half':        'lr=5e-3',
    'crop .25':       'min_scale=0.25',
    'wd 5e-2':        'wd=5e-2',
    **{k:TRICKS[k] for k in ('muon','schedule-free','drop path','norm biases x8','tail','alternate flip')},
}
RUNGS = (1, 2, 4)                # Seeds after each round of the search; a third of the candidates go on, at least four
FINALISTS = 4
PRICES = {'ranger':''} | TRICKS  # a seed of each on xresnet50: what does a trick cost in time and memory?
SEARCHES = (('search-5', 128, 5), ('search-20', 128, 20))
# with official seeds
CONFIRM = (('winner-5', 'search-5', 128, 5), ('winner-20', 'search-20', 128, 20), ('winner-192', 'search-5', 192, 5),
           ('winner-80', 'search-20', 128, 80))
GROWTH = [(128,64), (192,64), (256,64), (128,32), (128,128), (128,256)] # (size, bs): seconds and memory of an epoch

# The same on digits, to see within minutes and on any machine that every piece works
TOY = dict(size=64, epochs=1, fields='arch=xresnet10_tiny bs=128 widths=8,8,8,8 stem_szs=8,8,8',
           keep=('act','sa','pool','stem_pool','conv','block','stem','lr','mom','opt','sched','init','group','average','vary',
                 'loss','aug','flip'), growth=[(32,64), (48,128)],
           bench=['--size','32','--epochs','1','--arch','xresnet10_tiny'],
           candidates={'reference':'act=relu', 'mish':'act=mish', 'mish lr 5e-3':'act=mish lr=5e-3',
                       'mish, muon':f'act=mish {MUON}'},
           changes={'same':'', 'mixup .2':'mixup=0.2'}, rungs=(1, 2), finalists=1)
