"What a recipe, a schedule or a study answers before it trains"
import pytest
from woofbench.registry import BadInput, Param, check
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
