"The time bound of a row, as `benchmarks.row` prints it"
import sys
from types import SimpleNamespace
import pytest
import torch
from conftest import root

sys.path.insert(0, str(root))
from benchmarks import bound, row, ways  # noqa: E402
from woofbench.models.spec import XResNetSpec, change  # noqa: E402

def test_work_by_hand():
    "Two epochs of 130 images in batches of 64, 10 to validate with"
    assert bound.work(1000, 130, 64, 10, 2)==2*(3*1000*128+1000*10)

def test_products_of_a_network():
    found = bound.shapes(change(XResNetSpec(), 'xresnet10_tiny'), 32, 4)
    stem = change(XResNetSpec(), 'xresnet10_tiny').stem_szs
    assert (4*16*16, 3*9, stem[0]) in found, 'the first convolution halves 32 px, and sees 3x3 of 3 channels'
    assert [o for o in found if o[2]==10]==[(4, 128, 10)], 'the last layer has a row for each image'

@pytest.mark.parametrize('kind', ('fp32','bf16'))
def test_a_rate_is_measured(kind):
    assert 1e7<bound.product((128,)*3, bound.KINDS[kind], torch.device('cpu'))<1e14

def way(rates, seconds):
    "A way with measured rates, whose first seed is cold"
    seeds = [dict(seconds=o, curve=[dict(train_s=.6*o, eval_s=.3*o)]) for o in seconds]
    parts = {'convolutions':6., 'norms and activations':2., 'optimiser':1., 'loader':0., 'Python':1.}
    rates = [dict(rate=o, shape=(8,8,8), work=100., precision='fp32') for o in rates]
    return SimpleNamespace(name='fast', rates=rates, seeds=seeds, parts=parts)

def test_the_bound_takes_the_better_rate_and_warm_seeds(capsys):
    w = way((10., 20.), (99., 10., 20.))
    got = row.limit(w)
    assert got['bound_s']==5 and got['over_bound']=='3.00 (2.00-4.00)'
    where = row.where(w)
    assert where['convolutions']==pytest.approx(36) and where['validation']==pytest.approx(30)
    assert where['preparation']==pytest.approx(10) and sum(where.values())==pytest.approx(100)
    row.say_limits([w])
    assert 'takes 3.00 (2.00-4.00) times as long' in capsys.readouterr().out
    assert row.limit(way((), (1.,)))=={}

def test_parts_are_told_apart():
    def event(name, ms, parent=None): return SimpleNamespace(name=name, self_cpu_time_total=1e3*ms, cpu_parent=parent)
    step = event('part: optimiser', 1)
    conv = event('aten::convolution', 1)
    events = [step, event('aten::mul', 2, step), event('aten::mm', 1, step), conv, event('aten::empty', 3, conv),
              event('aten::mish', 5)]
    got = ways.parts_of(events, .020, 1)
    assert got==pytest.approx({'convolutions':4, 'norms and activations':5, 'optimiser':4, 'loader':0, 'Python':7})
