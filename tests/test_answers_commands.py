"Answers that were wrong without a word: ablations, plans of sweeps, dry runs, pictures, words of the commands"
import pytest
from woofbench.commands import ablate as ablations
from woofbench.commands.ablate import ablate, load
from woofbench.commands.run import run
from woofbench.registry import BadInput

small = dict(dataset='digits', size=16, epochs=1, arch='xresnet10_tiny', bs=128, seeds=2, device='cpu', say=None)
SMALL = '--dataset digits --size 16 --epochs 1 --arch xresnet10_tiny --bs 128 --seeds 2 --device cpu'


# Ablations

def test_an_ablation_takes_a_base_that_differs_in_nothing_that_changes_a_result(tmp_path, monkeypatch):
    "Loader processes, seeds at once, and code of the package that trains nothing"
    from woofbench.commands import run as runs
    facts = runs.code_facts
    base = run(engine='fastai', workers=0, out=tmp_path, **small)
    monkeypatch.setattr(runs, 'code_facts', lambda: facts() | dict(source_sha256='f'*16))
    res = ablate(['act=relu'], engine='fastai', workers=1, out=tmp_path, **small)
    assert res.base.id==base.id and res.rows[0][1].record['env']['workers']==1
    assert 'loader processes, code of woofbench that trains nothing' in res.conclusion()
    assert load(tmp_path, res.base, [res.rows[0][1]]).conclusion()==res.conclusion()
    monkeypatch.setattr(ablations, '_one_context', lambda a, b: False)
    with pytest.raises(BadInput, match='cannot be compared with the base'): load(tmp_path, base, [res.rows[0][1]])
