"What a recipe, a schedule or a study answers before it trains"
import json, shutil
from types import SimpleNamespace
import pytest
import torch
from conftest import picture, tiny_dataset
from torch import nn
from woofbench.commands.run import learner
from woofbench.commands.show import to_json, tuning_facts
from woofbench.commands.tune import tune
from woofbench.data.manifest import verify
from woofbench.data.own_images import as_dataset
from woofbench.data.tuning_split import split_training
from woofbench.registry import BadInput, Param, check, using
from woofbench.train import multi_seed
from woofbench.train.averages import averages
from woofbench.train.learner import check_parts
from woofbench.train.losses import losses
from woofbench.train.optim import scheds
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
    if any(o.startswith('bs=') for o in space): del small['bs']
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
        right = 2 if job.recipe.lr>.025 else 1
        log(1, dict(correct=right), 0)
        yield SimpleNamespace(seed=0, correct=right)
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
    assert len(states(res))==len(began)==2 and 'continuing: 2 trials are done' in lines

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

def test_trials_count_from_one_and_have_values_in_place_of_texts(few, tmp_path, trained):
    res,lines = study(few, tmp_path, 'normalize=true,false', 'lr=.01|.03', trials=9)
    assert res.to_df().number.tolist()==[*range(1, len(res.study.trials)+1)]
    said = json.loads(to_json(tuning_facts(res)))['trials']
    assert {(o['normalize'], o['lr']) for o in said}=={(a, b) for a in (True, False) for b in (.01, .03)}
    assert all(type(o['epochs']) is int for o in said if o['state']=='COMPLETE' and o.get('repeats') is None)
    for o in said:
        if again := o.get('repeats'): assert type(again) is int and said[again-1]['lr']==o['lr']
    assert 'the study ends after all 4 combinations' in lines and str(res).endswith('4 trials in this cell')
    assert '| true | 0.03 |' in str(res)

def test_a_field_with_one_value_in_all_trials_explains_nothing(few, tmp_path, trained):
    "The images are flipped already, so one of two augmentations is refused in each trial"
    res,lines = study(few, tmp_path, 'aug=alternate_flip,trivial', 'lr=.01,.03', trials=9, flip=.5)
    assert res.importance()=={'lr':1.}
    assert 'the study ends after all 4 combinations, and 2 of them could not be trained' in lines
    alone,_ = study(few, tmp_path/'other', 'aug=alternate_flip,trivial', trials=9, flip=.5)
    assert alone.importance()=={} and str(alone).endswith('\n1 trial in this cell')

def test_a_field_of_the_space_has_no_value_for_all_trials(few, tmp_path, refused):
    with pytest.raises(BadInput, match='lr is given twice'): study(few, tmp_path, 'lr=.02,.03', lr=.01)
    assert 'lr is given twice' in refused(f'tune --dataset {few} --space lr=.02,.03 --lr .4 --out {tmp_path}')

def test_epochs_of_a_killed_trial_are_spent(few, tmp_path, trained):
    res,_ = study(few, tmp_path, 'lr=1e-3..1e-2', trials=1)
    res.study.ask().set_user_attr('epochs', 5) # then its command was killed
    res,lines = study(few, tmp_path, 'lr=1e-3..1e-2', trials=9, max_epochs=6)
    assert len(trained[0])==1 and lines[-2:]==['continuing: 1 trial is done', 'the study ends after 6 epochs']

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
    res,lines = study(few, tmp_path, 'block=strided,res', 'pool=max2,avg', trials=3,
                      recipe=Recipe().but(block='strided'))
    done = {(o.params['block'], o.params['pool']):o.state.name for o in res.study.trials}
    assert done.pop(('strided','max2'), 'FAIL')=='FAIL' and {*done.values()}=={'COMPLETE'} and len(done)==3
    assert len(trained[0])==3


# Schedules of libraries

def table(sched, **kw):
    "The factors of a library's schedule over 2 epochs of 10 steps"
    r = Recipe().but(sched=sched, **kw)
    with using(dict(r.params)): f = scheds(r.sched)
    return f.func.table(2, 10, **f.keywords)

OTHER = dict(warmup_epochs=1, min_lr=.5, decay_rate=.5, power=2., factor=.5, eta_min=.5, start_factor=.5, end_factor=.5,
             pct_start=.6, anneal_strategy='linear', div_factor=5., final_div_factor=5., three_phase=True)

@pytest.mark.parametrize('sched', [o for k in ('timm','torch') for o in scheds.names(k) if ':' in o])
def test_each_setting_of_a_schedule_of_a_library_changes_its_rates(sched):
    "Else it would only change the hash, and the official seeds with it"
    names,usual = scheds.params_of(sched),table(sched)
    for k in {*names}-{'warmup_lr'}: assert table(sched, **{f'sched_{k}':OTHER[k]})!=usual, k
    if 'warmup_lr' not in names: return
    assert len({*map(str, (table(sched, sched_warmup_epochs=1, sched_warmup_lr=o) for o in (.1, .5)))})==2
    with pytest.raises(BadInput, match='changes nothing without sched_warmup_epochs'): table(sched, sched_warmup_lr=.1)

@pytest.mark.parametrize('sched,field', [
    ('timm:cosine','decay_rate'), ('timm:tanh','decay_rate'), ('timm:poly','decay_rate'), ('timm:step','min_lr'),
    ('torch:OneCycleLR','cycle_momentum'), ('torch:OneCycleLR','base_momentum'), ('torch:OneCycleLR','max_momentum')])
def test_a_setting_that_does_nothing_is_unknown(sched, field):
    with pytest.raises(BadInput, match=f"unknown field 'sched_{field}'; (there is|did you mean) sched_"):
        Recipe().but(sched=sched, **{f'sched_{field}':.3})

def test_the_power_of_a_polynomial_is_called_so():
    assert table('timm:poly', sched_power=1.)==pytest.approx([1-i/20 for i in range(20)])
    assert 'Power' in scheds.params_of('timm:poly')['power'].about

@pytest.mark.parametrize('kw,says', [
    (dict(sched='torch:LinearLR', sched_start_factor=0.), 'Starting multiplicative factor'),
    (dict(sched='torch:OneCycleLR', sched_anneal_strategy='slow'), 'anneal_strategy must be'),
    (dict(sched='torch:CosineAnnealingLR', sched_eta_min=-1.), 'a learning rate is 0 or above'),
    (dict(sched='one_cycle', opt='torch:Adagrad'), 'one_cycle changes the momentum, and opt torch:Adagrad has none')])
def test_what_would_fail_in_the_training_is_refused_before(kw, says):
    with pytest.raises(BadInput, match=says): check_parts(Recipe().but(**kw), torch.device('cpu'))

def test_schedules_and_optimisers_that_go_together_are_taken():
    for kw in (dict(sched='one_cycle', opt='rmsprop'), dict(sched='one_cycle', opt='torch:SGD'),
               dict(sched='one_cycle', opt='timm:lion'), dict(sched='timm:poly'), dict(opt='torch:Adagrad')):
        check_parts(Recipe().but(**kw), torch.device('cpu'))

def test_a_schedule_that_does_not_suit_the_number_of_steps_is_refused():
    with pytest.raises(BadInput, match='does not work with its settings: ZeroDivisionError'):
        r = Recipe().but(sched='torch:OneCycleLR', sched_pct_start=.5)
        with using(dict(r.params)): f = scheds(r.sched)
        f.func.table(1, 2, **f.keywords)


# A learner

def test_a_learner_takes_no_epochs():
    with pytest.raises(BadInput, match='learner takes no epochs: give them when you train'): learner(epochs=3)

def test_a_learner_refuses_what_run_refuses(registries_stay):
    losses.register('plain')(lambda r: nn.CrossEntropyLoss())
    with pytest.raises(BadInput, match='loss plain cannot be used with mixed classes'):
        learner(size=16, arch='xresnet10_tiny', loss='plain', mixup=.4, device='cpu')
