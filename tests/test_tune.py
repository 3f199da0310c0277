"""`tune`: a search that never opens the validation images, goes on after a stop, and counts its trials"""
import os, shutil, signal, time
from pathlib import Path
import pytest
from woofbench.board.trials import count_trial, trials
from woofbench.commands.tune import read_space, tune
from woofbench.commands.run import run
from woofbench.commands.workers import node
from woofbench.data.manifest import make_digits
from woofbench.data.track import Track
from woofbench.registry import BadInput
from woofbench.train.recipe import Recipe, config_id
from warm import Program

space = ['lr=1e-4..5e-2', 'act=mish,relu']
small = dict(size=16, epochs=2, recipe='digits', bs=32, workers=0, say=None)

@pytest.fixture(scope='module')
def images(tmp_path_factory):
    "A fifth of the digits, as images of your own"
    root,digits = tmp_path_factory.mktemp('images')/'few',make_digits()
    for o in sorted(digits.rglob('*.png'))[::5]:
        to = root/o.relative_to(digits)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(o, to)
    return root

@pytest.fixture(scope='module')
def found(images, tmp_path_factory):
    return tune(space, str(images), trials=4, out=tmp_path_factory.mktemp('found'), **small)

def values(res): return res.to_df()[['lr','act','value','state']].values.tolist()

def test_validation_images_are_not_opened(images, found, tmp_path):
    "Each one is damaged, and in the folder of another class: the same trials, the same accuracies"
    copy = Path(shutil.copytree(images, tmp_path/'few'))
    classes = sorted(o.name for o in (copy/'val').iterdir())
    for o in sorted((copy/'val').rglob('*.png')):
        after = classes[(classes.index(o.parent.name)+1)%len(classes)]
        (copy/'val'/after/f'moved-{o.name}').write_bytes(b'not an image')
        o.unlink()
    res = tune(space, str(copy), trials=4, out=tmp_path/'board', **small)
    assert values(res)==values(found)
    assert res.best==found.best
    with pytest.raises(BadInput): tune(space, str(copy), trials=4, confirm=True, out=tmp_path/'board', **small)

def test_it_goes_on_and_counts_once(images, found, tmp_path):
    out = tmp_path/'board'
    assert tune(space, str(images), trials=2, out=out, **small).spent==2
    res = tune(space, str(images), trials=4, out=out, **small)
    assert (len(res.study.trials), res.spent)==(4, 4)
    for o in out.rglob('*.journal'): o.unlink() # begun again in the same board
    again = tune(space, str(images), trials=2, out=out, **small)
    assert again.spent==4 # its first two trials are those that were there before
    assert values(again)==values(res)[:2]

def test_the_record_says_how_many_trials_were_spent(images, tmp_path):
    out = tmp_path/'board'
    res = tune(space, str(images), trials=2, confirm=True, out=out, **small)
    assert res.row.record.tuning==2 and res.row.n==5 and res.row.kind=='official'
    assert res.row.config_id==config_id(res.row.track, res.best)

def test_a_killed_trial_is_trained_again(images, tmp_path):
    out = tmp_path/'board'
    code = ('from woofbench.commands.tune import tune\n'
            f'tune({space!r}, {str(images)!r}, trials=3, out={str(out)!r}, **{small | dict(say=None)!r})\n')
    proc = Program(['-c', code])
    end = time.monotonic()+240
    while time.monotonic()<end and not list(out.rglob('trials.txt')) and proc.poll() is None: time.sleep(.05)
    proc.send_signal(signal.SIGKILL)
    proc.wait()
    res = tune(space, str(images), trials=3, out=out, **small)
    done = [o for o in res.study.trials if o.state.name in ('COMPLETE','PRUNED')]
    assert len(done)==3 and res.spent==3
    assert not [o for o in res.study.trials if o.state.name=='RUNNING']

def test_two_boards_share_a_storage(images, tmp_path):
    "Trials count on both boards, and a trial that another process trains now is left to it"
    import optuna
    at = dict(trials=2, storage=f'sqlite:///{tmp_path/"tune.db"}')
    first = tune(space, str(images), out=tmp_path/'a', **at, **small)
    assert tune(space, str(images), out=tmp_path/'b', **at, **small).spent==first.spent==2
    names = dict(other='elsewhere 1', mine=f'{node()} {os.getpid()}', gone=f'{node()} {2**22+1}')
    study,asked = first.study,{}
    for k,process in names.items():
        asked[k] = study.ask()
        asked[k].set_user_attr('process', process)
    found = tune(space, str(images), out=tmp_path/'c', **at, **small)
    states = {k:found.study.trials[o.number].state for k,o in asked.items()}
    running,fail = optuna.trial.TrialState.RUNNING,optuna.trial.TrialState.FAIL
    assert states==dict(other=running, mine=running, gone=fail) and found.spent==2

def test_a_budget_of_epochs_ends_the_study(images, tmp_path):
    res = tune(space, str(images), trials=50, max_epochs=3, out=tmp_path, **small)
    assert len(res.study.trials)<=3

def test_a_trial_that_is_behind_stops_early(images, tmp_path):
    "Successive halving: a rate that learns nothing is not trained to its end, and the study goes on"
    lines = []
    res = tune(['lr=1e-6..5e-2'], str(images), trials=8, out=tmp_path, **small | dict(epochs=5, say=lines.append))
    behind = [o for o in res.study.trials if o.state.name=='PRUNED']
    assert res.spent==8 and behind and res.best.lr>1e-3
    trained = [o for o in behind if 'epochs' in o.user_attrs] # the others have the values of one of these
    assert max(o.user_attrs['epochs'] for o in trained)<5
    assert sum('stopped early' in o for o in lines)==len(trained)>0
    res = tune(['lr=1e-6,.02'], str(images), trials=6, prune=False, out=tmp_path/'all', **small)
    assert {o.state.name for o in res.study.trials}=={'COMPLETE'} and len({o.params['lr'] for o in res.study.trials})==2

def test_values_that_cannot_be_trained_do_not_end_the_study(images, tmp_path):
    "`alternate_flip` flips images itself, and the base flips them too"
    lines = []
    res = tune(['aug=alternate_flip,trivial'], str(images), trials=2, out=tmp_path,
               **small | dict(epochs=1, flip=.5, say=lines.append))
    assert res.best.aug=='trivial' and any('do not go together' in o for o in lines)

def test_a_recipe_is_trained_once(images, tmp_path):
    "Two recipes, and a budget of six trials"
    lines = []
    res = tune(['act=mish,relu'], str(images), trials=6, out=tmp_path, **small | dict(epochs=1, say=lines.append))
    t = res.to_df()
    assert res.spent==t.act.nunique()==t.epochs.notna().sum()==2 and 'the study ends after all 2 combinations' in lines
    assert all(len(o)==1 for o in t.groupby('act').value.unique())

def test_numbers_near_one_keep_their_distance():
    ema = read_space(['ema=.999..0.9999'])['ema']
    assert [ema.rounded(o) for o in (.999,.99912344,.9996,.9999)]==[.999,.999123,.9996,.9999]
    lr = read_space(['lr=1e-3..3e-2'])['lr']
    assert [lr.rounded(o) for o in (.0010001,.012345,.03)]==[.001,.0123,.03]

def test_trials_that_stopped_early_say_what_mattered(images, tmp_path):
    "A field whose bad value is always stopped early is the one that explains the differences"
    res = tune(['lr=1e-6,.02','wd=.01,.011'], str(images), trials=8, out=tmp_path, **small | dict(epochs=3))
    share = res.importance()
    assert share['lr']>.9 and abs(sum(share.values())-1)<1e-6

def test_a_space_in_a_file(tmp_path):
    path = tmp_path/'space.toml'
    path.write_text('[space]\nlr = "1e-3..3e-2"\nact = ["mish", "silu"]\n')
    assert read_space(str(path))==read_space(['lr=1e-3..3e-2','act=mish|silu'])
    path.write_text('lr = 3')
    with pytest.raises(BadInput, match='no table'): read_space(str(path))

@pytest.mark.parametrize('given,says', [
    (['lr'], 'FIELD=FROM..TO'), ([], 'name what to search'), (['lr=2..1'], 'the lower one first'),
    (['lr=1e-3'], 'two or more values'), (['act=mish,mish'], 'each once'), (['lr=1e-3..1','lr=1e-2..1'], 'once'),
    (['actt=mish,relu'], 'unknown field'), (['lr=a..b'], 'two numbers'),
    (['opt_dampening=0..1'], r'write 0.0..1.0 for all numbers')])
def test_a_wrong_space_is_refused(given, says):
    with pytest.raises(BadInput, match=says): read_space(given)

@pytest.mark.parametrize('given,says', [(['act=mich,relu'], 'did you mean mish'), (['lr=1e-3..99'], 'at most 10'),
                                        (['progressive=.5..1'], 'takes few values')])
def test_values_are_checked_before_training(given, says, tmp_path):
    with pytest.raises(BadInput, match=says): tune(given, 'digits', out=tmp_path, say=None)

def test_trials_are_counted_by_what_was_trained(tmp_path):
    track = Track('digits', 32, 1, '32')
    ids = [config_id(track, Recipe().but(lr=o)) for o in (.01, .02)]
    for o in (ids[0], ids[1], ids[0]): count_trial(tmp_path, track, o, 'split', 0)
    assert trials(tmp_path, track)==2

def test_rows_of_other_cells_have_no_trials(tmp_path):
    count_trial(tmp_path, Track('digits', 32, 9, '32'), 'recipe', 'split', 0)
    row = run('digits', size=16, epochs=1, seeds=1, arch='xresnet10_tiny', out=tmp_path, say=None)
    assert row.record.tuning==0
