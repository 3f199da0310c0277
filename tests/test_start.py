"What a command imports before it works, and that nothing is lost by importing less"
import subprocess, sys
import pytest
from PIL import Image
from conftest import root
from woofbench.data.loaders import deferred_pad
from woofbench.models import costs
from woofbench.models.parts import slots
from woofbench.models.spec import XResNetSpec, change
from woofbench.models.xresnet import build, without_numbers
import woofbench.tricks  # noqa: F401  registers all tricks

HEAVY = ('torch','fastai','pandas','scipy','sklearn','matplotlib','timm','torchvision','numpy')
# PyTorch's compiler, whole libraries of networks, loggers: a row of digits needs none of them
NEVER = ('torch._dynamo','torch._inductor','sympy','torchvision','timm','wandb','tensorboard','fastai.vision.learner',
         'fastai.vision.all','fastai.text','IPython','accelerate','optuna','ray')

def test_what_is_imported(tmp_path):
    code = f"""import sys
def there(names): return [o for o in names if o in sys.modules]
import woofbench
print(there({HEAVY}))
from woofbench.commands.cli import main
main(['board', '--check', '--out', {str(root)!r}])
print(there({NEVER}))
main('run --dataset digits --engine fast --size 16 --epochs 1 --seeds 1 --device cpu --out'.split()+[sys.argv[1]])
print(there({NEVER}))
main(['board', '--out', sys.argv[1]])
print(there({NEVER}))"""
    p = subprocess.run([sys.executable, '-c', code, tmp_path], capture_output=True, text=True)
    found = [o for o in p.stdout.splitlines() if o.startswith('[')]
    assert found==['[]']*4 and '1 of 5 seeds' in p.stdout, (found, p.stderr[-2000:])

def test_padding_by_nothing_is_left_out_and_all_other_is_torchvisions():
    with deferred_pad(): from torchvision.transforms.functional import pad
    from torchvision.transforms.functional import pad as real
    img = Image.effect_noise((5, 4), 80)
    for o in ((0,0,0,0), (1,0,2,3)): assert pad(img, o).tobytes()==real(img, o).tobytes()
    assert pad(img, (1,1,1,1), padding_mode='reflect').tobytes()==real(img, (1,1,1,1), padding_mode='reflect').tobytes()

def made(spec, device):
    with without_numbers(device): return build(spec, 10, 64).eval().requires_grad_(False)

@pytest.mark.parametrize('kind', list(slots))
def test_the_small_counter_counts_as_pytorchs(kind):
    tiny,counted = change(XResNetSpec(), 'xresnet10_tiny'),0
    for name in slots[kind]:
        spec = change(tiny, **{kind:name}, **({'act':'leaky'} if name=='inplace' else {}))
        small = costs.small_flops(made(spec, 'cpu'), 64)
        counted += small is not None
        assert small in (None, costs.torch_flops(made(spec, 'meta'), 64)), name
    assert counted
