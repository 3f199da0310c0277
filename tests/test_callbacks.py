"Callbacks that you bring: those that only look, those that say so wrongly, and loggers"
import csv, json, os, random
import numpy as np
import pytest
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.progress import CSVLogger, ProgressCallback, ShowGraphCallback
from fastai.learner import Recorder
from conftest import root
from warm import python
from woofbench import BadInput, ablate, learner, run
from woofbench.board.record.record import check_record, read_record
from woofbench.board.row import Row
from woofbench.commands.cli import make_parser
from woofbench.commands.reproduce import other_code
from woofbench.train.observers import KNOWN, does_more, new_callback, loggers, name_of, which_loggers

engines = pytest.mark.parametrize('engine', ('fast','fastai'))
tiny = dict(dataset='digits', size=16, epochs=1, arch='xresnet10_tiny', bs=128, workers=0, say=None)

def numbers(row):
    return [(r['seed'], r['correct'], r['preds'], r['init_sha256'],
             [(o['train_loss'], o['valid_loss']) for o in r['curve']]) for r in row.runs]

@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    "The rows without callbacks, by engine and number of seeds"
    found = {}
    def _f(engine, seeds):
        if (engine,seeds) not in found:
            found[engine,seeds] = run(engine=engine, seeds=seeds, out=tmp_path_factory.mktemp('plain'), **tiny)
        return found[engine,seeds]
    return _f

@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    "Loggers reach nothing outside, and `CSVLogger` by itself writes where you are"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.delenv('WANDB_API_KEY', raising=False)


class Count(Callback):
    "Counts its events, and leaves them where the test finds them"
    observes = True
    made = []
    def __init__(self): self.events = []
    def before_fit(self): self.made.append(self)
    def after_batch(self): self.events.append(self.training)
    def after_epoch(self): self.events.append('epoch')

class Plain(Callback):
    "Looks, and does not say so"
    def after_epoch(self): self.seen = float(self.smooth_loss)

class Later(Count): "What it inherits, it does not say"


# Known observers, and loggers: the same numbers to the last count

def bars(): return [ProgressCallback(), ShowGraphCallback()]
given = {'CSVLogger':lambda: [CSVLogger], 'ProgressCallback':lambda: [ProgressCallback()], 'ShowGraphCallback':bars,
         'Recorder':lambda: [Recorder()], 'Count':lambda: [Count]}

def check_same(plain, tmp_path, engine, seeds, **kw):
    row,base = run(engine=engine, seeds=seeds, out=tmp_path, **tiny, **kw),plain(engine, seeds)
    assert numbers(row)==numbers(base) and row.record.callbacks and not base.record.callbacks
    assert all(o.observes for o in row.record.callbacks) and 'callback' not in row.status
    assert row.record.env['context']==base.record.env['context'] # it is the same row
    return row

@pytest.mark.parametrize('engine', ('fast', pytest.param('fastai', marks=pytest.mark.slow)))
def test_a_csv_log_and_a_look_of_your_own_change_nothing(engine, plain, tmp_path):
    Count.made.clear()
    row = check_same(plain, tmp_path, engine, 2, cbs=[Count], log_to='csv')
    assert [o.name for o in row.record.callbacks]==['test_callbacks.Count', 'fastai.callback.progress.CSVLogger']
    files = sorted((tmp_path/'.woofbench'/'logs'/row.track.cell/row.config_id/'csv').iterdir())
    assert [o.name for o in files]==['seed-0.csv', 'seed-1.csv']
    for o,r in zip(files, row.runs):
        lines = list(csv.DictReader(o.open(newline='')))
        assert [*lines[0]][:4]==['epoch', 'train_loss', 'valid_loss', 'accuracy']
        assert float(lines[-1]['accuracy'])*row.data.n_val==pytest.approx(r.correct, abs=1e-3)
    a,b = Count.made # each seed had its own
    assert a is not b and a.events==b.events and a.events.count('epoch')==1 and {True,False}<={*a.events}

@pytest.mark.slow
@engines
@pytest.mark.parametrize('name', given)
def test_every_known_observer_changes_nothing(name, engine, plain, tmp_path):
    check_same(plain, tmp_path, engine, 2, cbs=given[name]())

@pytest.mark.slow
@engines
@pytest.mark.parametrize('name', loggers)
def test_every_logger_changes_nothing(name, engine, plain, tmp_path):
    check_same(plain, tmp_path, engine, 2, log_to=name)

@pytest.mark.slow
@engines
def test_five_seeds_are_the_same_with_all_loggers_at_once(engine, plain, tmp_path):
    check_same(plain, tmp_path, engine, 5, log_to=[*loggers])

def test_all_that_is_known_is_tested():
    names = {name_of(o) for make in given.values() for o in make()} - {name_of(Count)}
    logs = {o.cls.replace(':', '.') for o in loggers.values()}
    assert names | logs=={*KNOWN}


# What each logger writes, offline

def below(out, name):
    return sorted(o for o in (out/'.woofbench'/'logs').rglob('*') if name in o.as_posix() and o.is_file())

def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    row = run(seeds=1, out=tmp_path, log_to=['tensorboard'], **tiny)
    file, = below(tmp_path, 'tensorboard')
    assert file.parent.name=='seed-0' and row.config_id in file.as_posix()
    found = EventAccumulator(str(file.parent))
    found.Reload()
    assert {'train_loss', 'valid_loss', 'accuracy', 'lr_0'}<={*found.Tags()['scalars']}
    assert found.Scalars('accuracy')[-1].value*row.data.n_val==pytest.approx(row.runs[0].correct, abs=.01)

@pytest.mark.parametrize('mode', ('offline','disabled'))
def test_wandb(mode, tmp_path, monkeypatch):
    import wandb
    monkeypatch.setenv('WANDB_MODE', mode)
    kept,init = [],wandb.init
    def note(**kw):
        kept.append((init(**kw), kw))
        return kept[-1][0]
    monkeypatch.setattr(wandb, 'init', note)
    row = run(seeds=2, out=tmp_path, log_to='wandb', **tiny)
    assert wandb.run is None and len(kept)==2 # each is finished
    assert {kw['group'] for _,kw in kept}=={f'{row.track.cell}/{row.config_id}'}
    assert [kw['config']['seed'] for _,kw in kept]==[0, 1] and kept[0][1]['config']['bs']==128
    files = [o for o in below(tmp_path, '/wandb/') if o.suffix=='.wandb']
    assert len(files)==(2 if mode=='offline' else 0)
    for file,acc in zip(files, row.acc): # what is to be sent later
        said = file.read_bytes()
        assert all(o in said for o in (b'train_loss', b'lr_0', b'accuracy', f'{acc:.6f}'[:6].encode()))

def test_wandb_without_a_key_stays_offline(tmp_path, monkeypatch):
    import wandb
    monkeypatch.delenv('WANDB_MODE')
    monkeypatch.setattr(wandb, 'login', lambda **kw: False)
    run(seeds=1, out=tmp_path, log_to='wandb', **tiny)
    assert [o for o in below(tmp_path, 'offline-run') if o.suffix=='.wandb']

TRACKIO = '''
import sys
from woofbench import run
row = run('digits', size=16, epochs=1, seeds=2, arch='xresnet10_tiny', bs=128, out=sys.argv[1], log_to='trackio',
          say=None)
import trackio
from trackio.sqlite_storage import SQLiteStorage
print(row.config_id, row.runs[0].correct, row.data.n_val)
names = [o['name'] if isinstance(o, dict) else o for o in SQLiteStorage.get_runs('woofbench')]
print(*sorted(names), sep='|')
for o in SQLiteStorage.get_logs('woofbench', min(names)): print(o)
'''

@pytest.mark.slow
def test_trackio(tmp_path):
    "In a process of its own, since trackio's folder is decided when it is imported"
    env = {k:v for k,v in os.environ.items() if not k.startswith('TRACKIO')} | dict(HF_HUB_OFFLINE='1')
    p = python(TRACKIO, tmp_path, env=env)
    assert p.returncode==0, p.stderr
    first,names,*logs = p.stdout.splitlines() # and nothing of trackio's own
    config,correct,n = first.split()
    assert names.split('|')==[f'digits/16-s32-e1/{config} seed {i}' for i in (0, 1)]
    assert (tmp_path/'.woofbench'/'logs'/'trackio'/'woofbench.db').is_file()
    said = [eval(o, dict(__builtins__={})) for o in logs]
    assert {'train_loss','lr_0'}<=said[0].keys() and said[-1]['accuracy']*int(n)==pytest.approx(int(correct), abs=.01)

def test_logs_of_an_earlier_training_stay(tmp_path):
    for _ in range(2): run(seeds=1, out=tmp_path, log_to='csv', again=True, **tiny)
    assert [o.name for o in below(tmp_path, 'seed-')]==['seed-0-2.csv', 'seed-0.csv']

def test_a_logger_that_is_not_installed_says_what_to_install(monkeypatch, refused):
    from woofbench.train import observers
    monkeypatch.setattr(observers, 'find_spec', lambda name: None)
    for name in ('tensorboard','wandb','trackio'):
        said = refused(f'run --dataset digits --log {name}')
        assert f'the logger {name} needs the package {name}: pip install "woofbench[log]"' in said
    assert which_loggers('csv')==('csv',) # which is fastai's own

def test_the_flag_can_be_repeated_and_takes_lists(refused):
    def parsed(line): return vars(make_parser().parse_strict(f'run {line}'.split()))['log_to']
    assert parsed('--log csv wandb')==['csv', 'wandb']==parsed('--log csv --log wandb')
    assert which_loggers(parsed('--log csv,wandb --log csv'))==('csv', 'wandb')
    assert 'did you mean tensorboard?' in refused('run --dataset digits --log tensorbord')
    assert 'did you mean csv?' in refused('ablate --dataset digits --one-at-a-time act=relu --log cvs')


# Callbacks that say wrongly that they only look

def weights(self): next(self.model.parameters()).data.add_(.1)
def buffers(self): next(self.model.buffers()).add_(1)
def gradients(self):
    for p in self.model.parameters():
        if p.grad is not None: p.grad.mul_(2)
def rate(self): self.opt.set_hyper('lr', 1.)
def images(self): self.learn.xb = (self.x*2,)
def loss(self): self.learn.loss_grad = self.loss_grad*2
def mode(self): self.model.eval()
def frozen(self): next(self.model.parameters()).requires_grad_(False)
def torch_draw(self): torch.rand(1)
def numpy_draw(self): np.random.rand()
def python_draw(self): random.random()
def crops(self):
    if hasattr(self.learn, 'fast_data'): torch.rand(1, generator=self.learn.fast_data.generator)
    else: self.dls.train.rng.random()
def more(self): self.learn.add_cb(Plain())
def stop(self): raise CancelFitException()

wrong = [('before_fit', weights, 'changes the weight'), ('after_batch', weights, 'changes the weight'),
    ('after_validate', weights, 'changes the weight'), ('after_fit', weights, 'changes the weight'),
    ('before_batch', buffers, 'changes the buffer'), ('before_step', gradients, 'changes the gradient'),
    ('before_train', rate, 'changes the optimiser'), ('before_batch', images, 'changes the images'),
    ('after_loss', loss, 'changes what is differentiated'), ('before_batch', mode, 'changes the mode'),
    ('before_epoch', frozen, 'changes which weights'), ('before_batch', torch_draw, 'the random state of PyTorch'),
    ('after_create', numpy_draw, 'the random state of NumPy'),
    ('after_pred', python_draw, 'the random state of Python'),
    ('before_train', crops, 'the random state of'), ('before_fit', more, 'changes the callbacks'),
    ('after_batch', stop, 'raises CancelFitException')]

def lying(event, do):
    return type('Lying', (Callback,), dict(observes=True, __module__='mine', order=55, **{event:do}))

def fit_with(event, do, engine):
    learn = learner('digits', size=16, engine=engine, arch='xresnet10_tiny', bs=128, workers=0, cbs=lying(event, do))
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)

@pytest.mark.parametrize('event,do,said,engine', [
    pytest.param(*o, engine, marks=[pytest.mark.slow]*(i%5>0 if engine=='fast' else o[1] not in (weights, crops)),
                 id=f'{engine}-{o[0]}-{o[1].__name__}')
    for engine in ('fast','fastai') for i,o in enumerate(wrong)])
def test_who_says_wrongly_that_it_looks_is_caught(event, do, said, engine):
    with pytest.raises(BadInput) as e: fit_with(event, do, engine)
    assert str(e.value).startswith('the callback mine.Lying says `observes = True`') and said in str(e.value)
    assert f' in {event}:' in str(e.value)

def test_a_run_with_one_that_says_so_wrongly_makes_no_row(tmp_path):
    with pytest.raises(BadInput, match='changes the weight'):
        run(seeds=1, out=tmp_path, cbs=lying('after_batch', weights), **tiny)
    assert not list(tmp_path.rglob('*.json'))

@pytest.mark.slow
@engines
def test_a_draw_after_the_first_epoch_changes_nothing(engine, tmp_path):
    "Random states are put back after every call, not in the compared ones alone"
    def draw(self):
        if self.epoch: return torch.rand(1), np.random.rand(), random.random()
    late = lying('before_batch', draw)
    kw = tiny | dict(epochs=2, engine=engine, seeds=1)
    assert numbers(run(out=tmp_path/'a', cbs=late, **kw))==numbers(run(out=tmp_path/'b', **kw))

def test_settings_that_do_more_than_look_are_named():
    from fastai.callback.tensorboard import TensorBoardCallback
    from fastai.callback.wandb import WandbCallback
    assert 'the training unless you set trace_model=False, log_preds=False' in does_more(TensorBoardCallback())
    assert 'unless you set log_preds=False' in does_more(WandbCallback())
    assert not does_more(TensorBoardCallback(trace_model=False, log_preds=False))
    assert not does_more(WandbCallback(log_preds=False))
    assert [bool(does_more(o)) for o in (Count(), Plain(), Later(), CSVLogger())]==[False, True, True, False]


# A callback that does not say that it looks

def test_without_a_word_the_row_is_unranked_and_another_one(plain, tmp_path):
    said,base = [],plain('fast', 1)
    row = run(seeds=1, out=tmp_path, cbs=[Plain()], **tiny | dict(say=said.append))
    assert 'the callback test_callbacks.Plain may change the training' in row.status
    assert any('does not say `observes = True`' in o and 'unranked' in o for o in said)
    assert row.record.env['context']!=base.record.env['context'] and numbers(row)==numbers(base)
    # the row without it is another row of the board, and is trained
    assert run(seeds=1, out=tmp_path, **tiny).id!=row.id
    assert run(seeds=1, out=tmp_path, cbs=Count, **tiny).id==run(seeds=1, out=tmp_path, **tiny).id
    assert 'trained with the callback test_callbacks.Plain' in other_code(row.record)
    sha = row.record.callbacks[0].sha256[:16]
    assert ('callbacks', f'test_callbacks.Plain {sha}', '') in row.differs_from(base)

def test_two_callbacks_that_may_change_are_two_rows(tmp_path):
    class Scale(Callback):
        def __init__(self, by): self.by = by
        def before_step(self):
            for p in self.model.parameters():
                if p.grad is not None: p.grad.mul_(self.by)
    one,two,again = (run(seeds=1, out=tmp_path, cbs=[Scale(o)], **tiny) for o in (.5, .1, .5))
    assert one.id==again.id!=two.id and one.record.callbacks[0].sha256!=two.record.callbacks[0].sha256
    assert one.runs[0].curve[0].train_loss!=two.runs[0].curve[0].train_loss

def test_a_callback_that_ends_the_training_makes_no_row(tmp_path):
    class Stop(Callback):
        def after_epoch(self): raise CancelFitException()
    with pytest.raises(BadInput, match='a callback has ended the training in epoch 1 of 2'):
        run(seeds=1, out=tmp_path, cbs=Stop, **tiny | dict(epochs=2))


# Records, copies, several seeds, the other verbs

def test_a_record_is_read_where_the_callback_is_unknown(tmp_path):
    row = run(seeds=1, out=tmp_path, cbs=[Plain, Count], **tiny)
    assert read_record(row.path)==row.record==check_record(json.loads(row.path.read_text()))
    assert [(o.name, o.observes) for o in row.record.callbacks]==[('test_callbacks.Plain', False),
                                                                  ('test_callbacks.Count', True)]
    code = 'import sys; from woofbench.board.table import load_rows; print(load_rows(sys.argv[1])[0][0].status)'
    p = python(code, tmp_path, cwd=root)
    assert p.stdout.strip()==Row(row.record).status and 'test_callbacks.Plain may change' in p.stdout
    changed = json.loads(row.path.read_text())
    changed['callbacks'][0]['observes'] = True
    with pytest.raises(BadInput, match='it was changed after it was written'): check_record(changed)

def test_what_cannot_be_fresh_is_refused(tmp_path):
    shared = Count()
    class Lock(Callback):
        def __init__(self): self.lock = __import__('threading').Lock()
    wrong = ((3, 'cbs takes callbacks'), (lambda: shared, 'the same callback again'), (lambda: 3, 'not a callback'),
             (Lock(), 'cannot be copied'), (lambda a: a, 'cannot be called without arguments'))
    for o,said in wrong:
        with pytest.raises(BadInput, match=said): run(seeds=1, out=tmp_path, cbs=[o], **tiny)
    assert isinstance(new_callback(Lock), Lock)

def test_seeds_at_once_become_one_at_a_time(tmp_path):
    from woofbench.commands.prepare import one_at_a_time, plan
    from woofbench.train.machine import Machine
    from woofbench.train.multi_seed import train_seeds
    from woofbench.train.observers import watched
    Count.made.clear()
    said,m = [],Machine(device='cpu', engine='fast', seeds_at_once=2)
    job = watched(plan('digits', epochs=1, arch='xresnet10_tiny', bs=128), [Count], None)
    assert one_at_a_time(job, m, said.append).seeds_at_once==1 and 'one seed at a time' in said[0]
    assert [o.seed for o in train_seeds(job, [0, 1], m)]==[0, 1]
    assert len(Count.made)==2

def test_a_learner_has_them_too():
    Count.made.clear()
    given = Count()
    learn = learner('digits', size=16, arch='xresnet10_tiny', bs=128, workers=0, cbs=[given])
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    assert Count.made==[learn.count] and learn.count is not given and not given.events
    learn = learner('digits', size=16, arch='xresnet10_tiny', bs=128, workers=0, cbs=lying('before_fit', weights))
    with pytest.raises(BadInput, match='changes the weight'): learn.fit(1, 1e-3)

@engines
def test_an_exception_without_a_message_is_itself(engine):
    "As a bare `assert` in your callback: fastai alone would raise an IndexError in its place"
    def bare(self): raise AssertionError
    with pytest.raises(AssertionError): fit_with('after_batch', bare, engine)
    def own(self): return ()[0]
    with pytest.raises(IndexError): fit_with('after_batch', own, engine)

def test_an_ablation_has_them_too(tmp_path):
    kw = {k:v for k,v in tiny.items() if k!='dataset'}
    res = ablate(['act=relu'], 'digits', seeds=2, out=tmp_path, cbs=Count, log_to='csv', **kw)
    assert all(len(o.record.callbacks)==2 for o in (res.base, res.rows[0][1]))
    assert len(below(tmp_path, 'seed-'))==4
