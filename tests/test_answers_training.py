"What a recipe, a schedule or a study answers before it trains"
import shutil
from types import SimpleNamespace
import pytest
from conftest import picture, tiny_dataset
from woofbench.commands.tune import tune
from woofbench.data.manifest import verify
from woofbench.data.own_images import as_dataset
from woofbench.data.tuning_split import split_training
from woofbench.registry import BadInput, Param, check
from woofbench.train import multi_seed
from woofbench.train.averages import averages
from woofbench.train.recipe import Recipe


# Values near a limit

@pytest.mark.parametrize('kw', [dict(ema=.99995), dict(sqr_mom=.99999), dict(mom=.99996), dict(smooth=.99999),
                                dict(dropout=.99999)], ids=str)
def test_a_value_that_is_rounded_to_a_limit_is_refused(kw):
    "A training with it would be wasted: its record could not be written"
    with pytest.raises(BadInput, match='keeps four digits, so 0.999.* would become 1$'): Recipe().but(**kw)

def test_values_that_stay_within_the_limits_are_rounded_as_before():
    r = Recipe().but(ema=.99994, mom=.123456, dropout=.99994, min_scale=.99999, flip=-0.)
    assert (r.ema, r.mom, r.model.dropout, r.min_scale, str(r.flip))==(.9999, .1235, .9999, 1., '0.0')
    with pytest.raises(BadInput, match='div must be at least 1 and at most'): r.but(sched='one_cycle', div=1e-9)
    with pytest.raises(BadInput, match='erase is 0, or at least 1e-08'): r.but(erase=1e-9)

def test_a_parameter_of_a_part_is_rounded_within_its_limits():
    p = Param(.5, 'Never 1', 0, .99999)
    assert check('aug_part', p, .99994)==.9999
    with pytest.raises(BadInput, match='would become 1$'): check('aug_part', p, .99998)
    n = Param(1, 'Whole', 0, 99999)
    assert check('aug_n', n, 99999)==99999 and check('aug_n', Param(1, 'Any', 0, fraction=True), 2.0)==2
    for o in (float('inf'), float('nan')):
        with pytest.raises(BadInput, match='number from'): check('aug_n', Param(1, 'Any', 0, fraction=True), o)


# Studies

@pytest.fixture
def few(tmp_path):
    "24 images of your own: a study trains on 18 of them"
    return str(tiny_dataset(tmp_path/'few', n_train=8, n_val=2))

def study(few, tmp_path, *space, **kw):
    "(what `tune` found, its lines)"
    lines = []
    small = dict(size=32, epochs=1, arch='xresnet10_tiny', bs=8, workers=0, out=tmp_path/'board', say=lines.append)
    return tune([*space], few, **small | kw), lines

def states(res): return [o.state.name for o in res.study.trials]

def test_a_batch_size_that_the_images_cannot_fill_does_not_stop_a_study(few, tmp_path):
    res,lines = study(few, tmp_path, 'bs=4,8,64', trials=4)
    done = {o.params['bs']:o.state.name for o in res.study.trials}
    assert done=={'4':'COMPLETE','8':'COMPLETE','64':'FAIL'}
    assert any('bs 64 is larger than the' in o for o in lines)

@pytest.fixture
def trained(monkeypatch):
    "Learning rates whose training began; it raises what `errors` has for a rate, once it is asked"
    began,errors = [],{}
    def train_seeds(job, seeds, machine, log, watch):
        began.append(job.recipe.lr)
        if e := errors.get(job.recipe.lr): raise e
        log(1, dict(correct=1), 0)
        yield SimpleNamespace(seed=0, correct=1)
    monkeypatch.setattr(multi_seed, 'train_seeds', train_seeds)
    return began, errors

@pytest.mark.parametrize('error,says', [(ValueError('no\nsuch rate'), 'ValueError: no such rate'),
                                        (BadInput('out of memory'), 'out of memory')], ids=['part','memory'])
def test_a_trial_that_fails_counts_and_is_not_trained_again(few, tmp_path, trained, error, says):
    began,errors = trained
    errors[.02] = error
    res,lines = study(few, tmp_path, 'lr=.02,.03', trials=2)
    assert sorted(states(res))==['COMPLETE','FAIL'] and sorted(began)==[.02,.03]
    assert any(o.endswith(f': failed: {says}') for o in lines)
    res,lines = study(few, tmp_path, 'lr=.02,.03', trials=2)
    assert len(states(res))==len(began)==2 and 'going on: 2 trials are done' in lines

def test_a_study_whose_trials_all_fail_says_so(few, tmp_path, trained):
    began,errors = trained
    errors |= {.02:ValueError('low'), .03:ValueError('low')}
    for _ in range(2):
        with pytest.raises(BadInput, match='to its end: all 2 failed, the last one: ValueError: low'):
            study(few, tmp_path, 'lr=.02,.03', trials=2)
    assert sorted(began)==[.02,.03]

def test_an_interrupted_trial_is_trained_again(few, tmp_path, trained):
    began,errors = trained
    errors |= {.02:KeyboardInterrupt(), .03:KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt): study(few, tmp_path, 'lr=.02,.03', trials=1)
    errors.clear()
    res,_ = study(few, tmp_path, 'lr=.02,.03', trials=1)
    assert states(res)==['FAIL','COMPLETE'] and began[0]==began[1]

def test_a_part_that_fails_before_the_training_does_not_stop_a_study(few, tmp_path, registries_stay):
    def odd(r, share):
        if share==.9: raise KeyError('no such share')
        return []
    averages.register('odd', params=dict(share=Param(.5, 'Share', 0, 1)))(odd)
    res,lines = study(few, tmp_path, 'average_share=.5,.9', average='odd', trials=2)
    assert sorted(states(res))==['COMPLETE','FAIL'] and any("KeyError: 'no such share'" in o for o in lines)

def test_a_space_whose_end_is_rounded_to_a_limit_is_refused(few, tmp_path):
    with pytest.raises(BadInput, match='would become 1$'): study(few, tmp_path, 'ema=.9..0.99999')


# The images of a study

def test_a_study_refuses_the_damaged_images_that_run_refuses(tiny):
    path = tiny/'train/a/x.jpg'
    picture(path, (320,240))
    assert verify(tiny, 'imagewoof') and split_training(tiny, 'imagewoof')
    raw = path.read_bytes()
    path.write_bytes(raw[:len(raw)//2] + raw[len(raw)//2+40:])
    for check_all in (verify, split_training):
        with pytest.raises(BadInput, match='x.jpg is a damaged JPEG file'): check_all(tiny, 'imagewoof')

def test_a_study_refuses_copies_of_training_images_among_those_that_are_held_out(tiny):
    for o in sorted((tiny/'train/a').iterdir()): shutil.copy(o, o.with_name(f'copy_{o.name}'))
    assert verify(tiny, 'imagewoof').twins==0
    with pytest.raises(BadInput, match='images that are held out for tuning are in the training set too, e.g. train/a'):
        split_training(tiny, 'imagewoof')

def test_a_study_of_one_class_is_refused(tmp_path):
    root = tiny_dataset(tmp_path/'alone', classes='a', n_train=4, n_val=2)
    with pytest.raises(BadInput, match='has one class'): split_training(root, as_dataset(root))


# Fields that do nothing

def test_a_space_of_a_field_that_does_nothing_is_refused(few, tmp_path):
    with pytest.raises(BadInput, match='pool makes no difference to this network'):
        study(few, tmp_path, 'pool=max2,max_blur', block='strided')

def test_a_trial_whose_values_do_nothing_is_not_trained(few, tmp_path, trained):
    "With another block they do something"
    res,lines = study(few, tmp_path, 'block=strided,res', 'pool=max2,avg', trials=3, block='strided')
    done = {(o.params['block'], o.params['pool']):o.state.name for o in res.study.trials}
    assert done.pop(('strided','max2'), 'FAIL')=='FAIL' and {*done.values()}=={'COMPLETE'} and len(done)==3
    assert len(trained[0])==3
