"Tricks of training: both engines, run-to-run equality, their place in records; timm's optimisers by name"
import json
from dataclasses import replace
import pytest, torch
from conftest import mostly_nightly
from fastai.callback.core import Callback
from woofbench.commands.prepare import plan
from woofbench.train.job import Job
from woofbench.train.learner import fit, make_learner
from woofbench.train.libraries import timm_opts
from woofbench.train.machine import Machine
from woofbench.train.muon import Muon
from woofbench.train.recipe import config_id, from_dict, to_dict
from woofbench.train.schedule_free import ScheduleFree
from woofbench.registry import BadInput

def job(epochs=1, **kw): return plan('digits', size=16, epochs=epochs, **dict(bs=64) | kw)

def on(engine): return Machine(device='cpu', workers=0, engine=engine)

TRICKS = [dict(opt='muon', lr=3e-2, mom=.6), dict(opt='muon', opt_lookahead=True, opt_rest='radam', opt_ks=1),
          dict(opt='schedule_free', sched='warm_flat'), dict(sched='warm_cosine'),
          dict(vary='wd', wd=.1), dict(vary='wd_mom', vary_warm=.5), dict(init='dirac'),
          dict(block='drop_path', block_rate=.3), dict(stem='whitening_signs')]

@pytest.fixture(scope='module')
def plain(): return fit(job(bs=32), 0, on('fast')).preds

@pytest.mark.parametrize('kw', mostly_nightly(TRICKS, 0, 2, 6, 8), ids=str)
def test_a_trick_changes_the_training_repeats_and_stays_in_the_record(kw, plain):
    p = job(bs=32, **kw)
    assert from_dict(json.loads(json.dumps(to_dict(p.recipe))))==p.recipe
    assert config_id(p.track, p.recipe)!=config_id(p.track, job(bs=32).recipe)
    a,b = (fit(p, 0, on('fast')) for _ in range(2))
    assert plain!=a.preds==b.preds and not a.diverged and a.correct>100 # of 360

@pytest.mark.parametrize('kw', TRICKS, ids=str)
def test_both_engines_take_the_same_steps(kw):
    "From the same weights and batches; crops differ between the engines, so both get the batches of one"
    losses,batches = {},None
    for engine in ('fastai','fast'):
        learn = make_learner(job(**kw), 3, on(engine))
        if batches is None: batches = [[o.as_subclass(torch.Tensor) for o in learn.dls.one_batch()] for _ in range(4)]
        learn.create_opt()
        learn.opt.set_hypers(lr=.02, wd=.01)
        learn.model.train()
        losses[engine] = []
        for x,y in batches:
            loss = learn.loss_func(learn.model(x), y)
            loss.backward()
            learn.opt.step()
            for q in learn.model.parameters(): q.grad = None
            losses[engine].append(float(loss))
    assert losses['fast']==pytest.approx(losses['fastai'], rel=2e-3)

def test_weights_without_decay_are_fastais():
    for kw in (dict(opt='muon'), dict(opt='schedule_free')):
        learn = make_learner(job(**kw), 0, on('fast'))
        learn.create_opt()
        for k,q in learn.model.named_parameters(): assert learn.opt.state[q].get('do_wd', True)==(q.ndim>1), k

def test_muon_trains_convolutions_of_3x3():
    learn = make_learner(job(opt='muon'), 0, on('fast'))
    learn.create_opt()
    assert isinstance(learn.opt, Muon)
    taken = [q.shape for q in learn.model.parameters() if learn.opt.how.takes(q)]
    assert len(taken)==10 and all(o[2:]==(3,3) and o[1]>3 for o in taken) # two in the stem, two in each of four blocks

class Rates(Callback):
    "The rate of every parameter at the last step"
    order = 99
    def before_step(self):
        self.rates = {id(q):h['lr'] for ps,h in zip(self.opt.param_lists, self.opt.hypers) for q in ps}

def test_a_factor_of_norm_biases_works_with_every_optimiser():
    for kw in (dict(opt='muon'), dict(opt='schedule_free'), dict(opt='torch:SGD')):
        learn = make_learner(job(group='norm_bias', group_rate=8., **kw), 0, on('fast'))
        seen = Rates()
        with learn.no_bar(), learn.no_logging(): learn.fit(1, .01, cbs=seen)
        biases = {id(m.bias) for m in learn.model.modules() if isinstance(m, torch.nn.BatchNorm2d)}
        for q in learn.model.parameters(): assert seen.rates[id(q)]==pytest.approx(.08 if id(q) in biases else .01)


# ScheduleFree

def test_validation_has_the_average_and_training_goes_on_from_where_it_was():
    learn = make_learner(job(opt='schedule_free', sched='warm_flat'), 0, on('fast'))
    seen = {}
    class See(Callback):
        order = 99
        def after_train(self): seen['train'] = [o.detach().clone() for o in self.model.parameters()]
        def before_validate(self): seen['valid'] = [o.detach().clone() for o in self.model.parameters()]
        def before_train(self):
            if seen: seen['again'] = [o.detach().clone() for o in self.model.parameters()]
    with learn.no_bar(), learn.no_logging(): learn.fit(2, .02, cbs=See())
    assert isinstance(learn.opt, ScheduleFree) and learn.opt.hypers[0]['averaged']
    assert any(not torch.equal(a, b) for a,b in zip(seen['train'], seen['valid']))
    assert all(torch.equal(a, b) for a,b in zip(learn.model.parameters(), seen['valid']))

@pytest.mark.parametrize('kw', [dict(vary='mom'), dict(vary='wd_mom'), dict(sched='one_cycle')], ids=str)
def test_schedule_free_needs_a_constant_momentum(kw):
    "The average is taken out of the weights with the momentum of the moment"
    with pytest.raises(BadInput, match='constant momentum'): make_learner(job(opt='schedule_free', **kw), 0, on('fast'))

def test_schedule_free_is_the_only_average():
    for kw in (dict(ema=.9), dict(average='tail')):
        with pytest.raises(BadInput, match='own average'): make_learner(job(opt='schedule_free', **kw), 0, on('fast'))

def test_a_learner_without_an_optimiser_validates(tmp_path):
    "Before its first fit, and where it was loaded from an export"
    from fastai.learner import load_learner
    learn = make_learner(job(opt='schedule_free', arch='xresnet10_tiny', bs=128), 0, on('fastai'))
    learn.path = tmp_path
    with learn.no_bar(), learn.no_logging():
        learn.validate()
        learn.fit(1, .02)
        want = learn.get_preds()[0]
    learn.export('a.pkl')
    loaded = load_learner(tmp_path/'a.pkl')
    with loaded.no_bar(), loaded.no_logging(): assert torch.allclose(loaded.get_preds(dl=learn.dls.valid)[0], want)

def test_a_momentum_that_is_not_there_cannot_change():
    with pytest.raises(BadInput, match='no momentum'): make_learner(job(opt='rmsprop', vary='mom'), 0, on('fast'))

def test_norms_are_counted_anew_for_the_average():
    "On the last batches of the epoch, as the authors say"
    learn = make_learner(job(opt='schedule_free', opt_batches=3), 0, on('fast'))
    cb = next(o for o in learn.cbs if type(o).__name__=='AveragedValidation')
    was,kept = cb.recount,[]
    def recount():
        kept.append(len(cb.seen))
        before = learn.model[0][1].running_mean.clone()
        was()
        kept.append(not torch.equal(before, learn.model[0][1].running_mean))
        assert not learn.model.training
    cb.recount = recount
    with learn.no_bar(), learn.no_logging():
        learn.fit(2, .02)
        assert kept==[3, True, 3, True]
        learn.validate() # nothing has changed
    assert len(kept)==4


# Parts of the network

@pytest.mark.parametrize('head', ('max','avg_max'))
def test_a_head_sees_another_number_where_the_map_has_more_than_one_place(head):
    "At 16 and 32 px this network's last map has one place, and all heads are the same"
    a,b = (make_learner(job(**kw), 0, on('fast')).model.eval() for kw in ({}, dict(head=head)))
    small,large = (torch.randn(2, 3, n, n) for n in (32, 64))
    with torch.no_grad(): assert torch.equal(a(small), b(small)) and not torch.equal(a(large), b(large))

def test_chances_rise_and_a_seed_drops_the_same():
    from woofbench.tricks.stochastic_depth import DropPath
    def paths(seed):
        return [o for o in make_learner(job(block='drop_path', block_rate=.4), seed, on('fast')).model.modules()
                if isinstance(o, DropPath)]
    a,b,c = (torch.stack([o.draw(50) for o in paths(s)]) for s in (0, 0, 1))
    assert [o.p for o in paths(0)]==pytest.approx([.1, .2, .3, .4])
    assert torch.equal(a, b) and not torch.equal(a, c) and len({tuple(o.tolist()) for o in a})==4

def test_one_cycle_has_its_own_momentum():
    with pytest.raises(BadInput, match='one_cycle changes the momentum'):
        make_learner(job(vary='mom', sched='one_cycle'), 0, on('fast'))

@pytest.mark.slow
def test_the_preset_trains():
    p = plan('digits', size=32, epochs=4, recipe='hlb', arch_width=8)
    assert fit(p, 0, on('fast')).correct>200 # of 360


# timm's optimisers

def _steps(learn, n):
    "`n` steps on the same batches"
    x,y = learn.one
    for _ in range(n):
        learn.loss_func(learn.model(x), y).backward()
        learn.opt.step()
        for q in learn.model.parameters(): q.grad = None

@pytest.mark.slow
@pytest.mark.parametrize('name', timm_opts())
def test_an_optimiser_of_timm_steps_stops_continues_and_keeps_its_arguments(name):
    from copy import deepcopy
    p = job(opt=f'timm:{name}')
    given = dict(p.recipe.params)
    read = from_dict(json.loads(json.dumps(to_dict(p.recipe))))
    assert dict(read.params)==given and config_id(p.track, read)==config_id(p.track, p.recipe)
    learn = make_learner(p, 0, on('fast'))
    torch.manual_seed(0)
    learn.one = torch.randn(8, 3, 16, 16),torch.arange(8)
    learn.create_opt()
    learn.opt.set_hypers(lr=1e-3, wd=1e-2)
    learn.model.train()
    before = [o.detach().clone() for o in learn.model.parameters()]
    _steps(learn, 2)
    assert any(not torch.equal(a, b) for a,b in zip(before, learn.model.parameters())), 'no weight moved'
    assert all(o.isfinite().all() for o in learn.model.parameters())
    model,state,rng = deepcopy(learn.model.state_dict()),deepcopy(learn.opt.state_dict()),torch.get_rng_state()
    _steps(learn, 2)
    other = make_learner(Job(p.track, replace(read), p.manifest), 1, on('fast'))
    other.model.load_state_dict(model)
    other.model.train()
    other.one = learn.one
    other.create_opt()
    other.opt.load_state_dict(state)
    torch.set_rng_state(rng)
    _steps(other, 2)
    for (k,a),b in zip(learn.model.named_parameters(), other.model.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7, msg=k)

@pytest.mark.parametrize('name,why', [('kron','opt_einsum'), ('kronw','opt_einsum'), ('bnbadam','bitsandbytes'),
                                      ('fusedsgd','apex'), ('adahessian','second derivatives')])
def test_an_optimiser_that_cannot_be_used_is_refused_by_name_with_the_reason(name, why):
    assert name not in timm_opts()
    with pytest.raises(BadInput, match=f'timm:{name} cannot be used here.*{why}'): job(opt=f'timm:{name}')
