"Weights that a run keeps: what was validated, found again by its row; and files for other programs give its logits"
import copy, json, shutil, signal, subprocess, sys, time
from pathlib import Path
import numpy as np
import pytest
import torch
from torch import nn
from PIL import Image
from fastai.learner import load_learner
from conftest import tiny_dataset
from woofbench.board.row import Row
from woofbench.board.table import load_rows
from woofbench.board.weights import belong, lacking, weights_path
from woofbench.commands.run import run
from woofbench.data.images import to_rgb
from woofbench.data.track import datasets
from woofbench.fast.fused import fuse_layers, use_gemm
from woofbench.models.parts import attns, slots
from woofbench.models.spec import XResNetSpec, archs, change
from woofbench.models.xresnet import build
from woofbench.registry import BadInput
from woofbench.train.export import Portable, export_onnx, export_program, formats, write_export
from warm import Program, call

engines = pytest.mark.parametrize('engine', ('fast','fastai'))
breeds = list(datasets['imagewoof'].classes[:3])
small = dict(arch='xresnet10_tiny', dataset='imagewoof', size=32, epochs=2, bs=8, workers=0, device='cpu', say=None)


@pytest.fixture(scope='module')
def images(tmp_path_factory): return tiny_dataset(tmp_path_factory.mktemp('weights')/'ds', breeds, n_train=16, n_val=8)

@pytest.fixture(autouse=True)
def here(images, monkeypatch): monkeypatch.setenv('WOOFBENCH_DATA', str(images))

def kept(images, out, **kw): return run(**small | dict(data=images, out=out, keep='weights', seeds=[3]) | kw)

@pytest.fixture(scope='module')
def row(images, tmp_path_factory): return kept(images, tmp_path_factory.mktemp('board'), seeds=[3,5])

def logits(learn):
    with learn.no_bar(): return learn.get_preds(act=lambda o: o)


# What is kept

def same_as_recorded(row, seed, **kw):
    "Do the predictions of the loaded learner equal those of the record, image by image?"
    preds,y = logits(row.learner(seed, **kw))
    i = [r.seed for r in row.runs].index(seed)
    n = len(row.data['classes'])
    return np.array_equal(((preds.argmax(1)-y) % n).numpy(), row.vectors[i])

def distinct(row): return len({o['preds'] for o in row.record['runs']})==row.n

def test_the_learner_makes_the_predictions_of_the_record(row):
    assert distinct(row), 'else the weights of any seed would do'
    assert all(same_as_recorded(row, o) for o in (3,5))

ways = dict(fastai=dict(engine='fastai'), ema=dict(ema=.7), tail=dict(average='tail', average_start=.3),
            layers=dict(act='mish', sa='simple_sa', pool='max_blur', stem='whitening', channels_last=True),
            inplace=dict(act='leaky', norm='inplace'), crop=dict(val_resize='crop'), plain=dict(normalize=False),
            bce=dict(loss='bce'), mixup=dict(mixup=.4, erase=.3), bf16=dict(precision='bf16'))
fast_ways = 'fastai','ema','layers'

@pytest.mark.parametrize('k', [pytest.param(o, marks=() if o in fast_ways else pytest.mark.slow) for o in ways])
def test_what_was_validated_is_kept(k, images, tmp_path):
    "On both engines, with averages, with statistics and buffers of all kinds"
    got = kept(images, tmp_path, lr=3e-2, **ways[k])
    assert same_as_recorded(got, 3)
    learn = got.learner(3)
    with learn.no_bar(): loss = learn.validate()[0]
    assert loss==pytest.approx(got.runs[0].curve[-1].valid_loss, abs=2e-5)

def test_keeping_changes_nothing_else(row, images, tmp_path):
    "Ids of configurations, counts, losses and the context are those of a run that keeps nothing"
    other = run(**small | dict(data=images, out=tmp_path, seeds=[3,5]))
    def facts(o): return [(r.seed, r.preds, r.init_sha256, [(e.train_loss, e.valid_loss) for e in r.curve])
                          for r in o.runs]
    assert facts(other)==facts(row) and other.config_id==row.config_id
    assert other.record['env']['context']==row.record['env']['context']
    assert [o.name for o in (tmp_path/'.woofbench').rglob('*')]==['lock']

def test_where_they_are(row):
    root = row.path.parents[3]
    found = {o.relative_to(root/'.woofbench').as_posix() for o in (root/'.woofbench').rglob('*') if o.is_file()}
    assert found=={'lock','weights/.gitignore',f'weights/{row.id}/seed-3.safetensors',
                   f'weights/{row.id}/seed-5.safetensors'}
    subprocess.run(['git','init','-q',root], check=True)
    seen = subprocess.run(['git','status','--porcelain','-uall'], cwd=root, capture_output=True, text=True).stdout
    assert 'records/' in seen and 'safetensors' not in seen

def test_the_images_may_be_elsewhere(row, images, tmp_path):
    there = shutil.copytree(images, tmp_path/'moved')
    assert same_as_recorded(row, 5, data=there)
    next((there/'val').rglob('*.JPEG')).unlink()
    with pytest.raises(BadInput, match='made from other images'): row.learner(5, data=there)


# Stopped runs, and rows without weights

def test_a_stopped_run_keeps_what_is_finished(row, images, tmp_path):
    def stop(line):
        if line.startswith('seed 5  epoch 1'): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): kept(images, tmp_path, seeds=[3,5], say=stop)
    waiting, = tmp_path.rglob('*.safetensors')
    assert waiting.with_suffix('.json').exists()
    said = []
    new = kept(images, tmp_path, seeds=[3,5], say=said.append)
    assert not [o for o in said if o.startswith('seed 3')] and not lacking(new) and same_as_recorded(new, 3)
    assert [r.preds for r in new.runs]==[r.preds for r in row.runs]
    assert not [o for o in (tmp_path/'.woofbench').rglob('seed-*') if new.id not in o.parts]

def test_seeds_that_were_finished_without_are_trained_again(images, tmp_path):
    "And one that goes on without keeping still gives what was kept before"
    def stop(line):
        if line.startswith('seed 5  epoch 1'): raise KeyboardInterrupt
    for keep in ('nothing','weights'):
        with pytest.raises(KeyboardInterrupt): kept(images, tmp_path, seeds=[3,5], say=stop, keep=keep)
    assert len([*tmp_path.rglob('seed-3.safetensors')])==1
    new = kept(images, tmp_path, seeds=[3,5], keep='nothing')
    assert lacking(new)==[5] and same_as_recorded(new, 3)
    with pytest.raises(BadInput, match='no weights of seed 5.*--keep weights --again'): new.learner(5)

def test_a_row_that_is_there_without_weights(images, tmp_path):
    first = kept(images, tmp_path, keep='nothing')
    said = []
    assert kept(images, tmp_path, say=said.append).id==first.id
    again = 'woofbench run --again trains it again'
    assert f'this row is there already, without its weights; {again} and keeps them' in said
    new = kept(images, tmp_path, again=True)
    assert not lacking(new) # its id is another one, unless all rounded seconds are the same
    assert kept(images, tmp_path, say=said.append).id==new.id and said[-1].endswith(f'; {again}')

def test_weights_of_another_run_are_refused(row, tmp_path):
    board = shutil.copytree(row.path.parents[3], tmp_path/'board')
    mine = load_rows(board)[0][0]
    a,b = (weights_path(mine, o) for o in (3,5))
    shutil.copy(b, a)
    with pytest.raises(BadInput, match='the weights of another run'): mine.learner(3)
    b.write_bytes(b.read_bytes()[:100])
    with pytest.raises(BadInput, match='damaged'): mine.predict(np.zeros((8,8), 'uint8'))
    assert lacking(mine)==[3,5] and not belong(board/'nothing', mine.runs[0])

def test_what_cannot_be_kept_is_said(images, tmp_path, row):
    with pytest.raises(BadInput, match='keep must be nothing or weights'): kept(images, tmp_path, keep='all')
    with pytest.raises(BadInput, match='has no seed 4; it has 3, 5'): row.learner(4)
    with pytest.raises(BadInput, match='was not read from a board'): Row(row.record).learner(3)

def test_killed_from_a_shell(tmp_path):
    "kill -9 between the seeds: no half file is taken for weights, and the row ends with all of them"
    args = ['woofbench', *'run --dataset digits --epochs 1 --seeds 4 --keep weights --out'.split(), str(tmp_path)]
    p = Program(args)
    while p.poll() is None and not list(tmp_path.rglob('seed-0.json')): time.sleep(.02)
    p.send_signal(signal.SIGKILL)
    p.communicate(timeout=120)
    assert not (tmp_path/'records').exists()
    call(args, timeout=300).check_returncode()
    new, = load_rows(tmp_path)[0]
    assert not lacking(new) and all(same_as_recorded(new, o) for o in range(4))
test_killed_from_a_shell = pytest.mark.slow(test_killed_from_a_shell)


# Predictions of single images

def test_predict_takes_what_people_have(row, images):
    "A path, an image, an array: the same probabilities as the learner's, and the mean of the seeds"
    learn = row.learner(3)
    want,other = (logits(o)[0].softmax(1).numpy() for o in (learn, row.learner(5)))
    files = sorted((images/'val').rglob('*.JPEG'))
    before = torch.get_rng_state()
    for i in (0, 9, 20):
        path = files[i]
        with Image.open(path) as im: im.load()
        for o in (path, str(path), im, np.asarray(im)):
            got = row.predict(o, seed=3)
            assert np.allclose(got.probabilities, want[i], atol=1e-5) and got.index==want[i].argmax()
            assert got.name==row.data['classes'][got.index]
        assert np.allclose(row.predict(path).probabilities, (want[i]+other[i])/2, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), before), 'looking changes no random numbers'
    grey = im.convert('L')
    assert np.allclose(row.predict(grey).probabilities, row.predict(np.asarray(grey)).probabilities)

@pytest.mark.parametrize('o', range(1, 9))
def test_predict_puts_photos_upright(row, tmp_path, o):
    "The same probabilities however the camera was held: from a path, its text, and an image of Pillow"
    from test_turned import photo, picture
    want,path = row.predict(picture(0)).probabilities,tmp_path/'a.png'
    path.write_bytes(photo(picture(0), o))
    with Image.open(path) as im:
        for x in (path, str(path), im): assert np.array_equal(row.predict(x).probabilities, want)

odd = dict(float=np.zeros((8,8,3)), chw=np.zeros((3,8,8), 'uint8'), list=[1,2], none=None)

@pytest.mark.parametrize('x', odd.values(), ids=odd)
def test_other_things_are_no_images(row, x):
    with pytest.raises(BadInput, match='an image is a path'): row.predict(x)

def test_a_path_that_is_no_image(row, tmp_path):
    with pytest.raises(BadInput, match='cannot be read'): row.predict(tmp_path/'none.jpg')


# Copies and files of learners

@engines
def test_copies_and_fastais_own_files(row, engine, images, tmp_path):
    learn = row.learner(3, engine=engine)
    want,_ = logits(learn)
    assert torch.allclose(logits(copy.deepcopy(learn))[0], want, atol=1e-5)
    learn.export(tmp_path/'e.pkl')
    back = load_learner(tmp_path/'e.pkl')
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(back.model.eval()(x), learn.model.eval()(x), atol=1e-5)
    files = sorted((images/'val').rglob('*.JPEG'))[:3]
    with back.no_bar(): assert torch.allclose(back.predict(files[1])[2], want[1].softmax(0), atol=1e-4)
    assert torch.allclose(torch.tensor(run_file(export_program(back, tmp_path/'b.pt2'), pixels(files, 32))), want[:3],
                          atol=1e-4)

def pixels(files, size, how='squish'):
    "Images as an exported network takes them, by this package's squares"
    from woofbench.data.val_resize import as_square
    squares = [np.asarray(as_square(to_rgb(Path(o).read_bytes(), o), size, how)) for o in files]
    return torch.tensor(np.stack(squares)).permute(0,3,1,2)/255

def run_file(path, x):
    "Logits of an exported file, by a program that has only the file"
    if Path(path).suffix=='.pt2': return torch.export.load(path).module()(x).numpy()
    import onnxruntime
    return onnxruntime.InferenceSession(path).run(None, {'images':x.numpy()})[0]

@pytest.mark.parametrize('engine', ('fast', pytest.param('fastai', marks=pytest.mark.slow)))
def test_exported_files_give_the_learners_logits(row, engine, images, tmp_path):
    learn = row.learner(5, engine=engine)
    want,_ = logits(learn)
    x = pixels(sorted((images/'val').rglob('*.JPEG')), 32)
    for f,name in ((export_onnx, 'a.onnx'), (export_program, 'a.pt2')):
        assert np.abs(run_file(f(learn, tmp_path/name), x)-want.numpy()).max()<1e-4
    assert fast_layers(learn.model)==(engine=='fast'), 'the learner keeps its layers'

def fast_layers(model): return any(type(o).__module__=='woofbench.fast.fused' for o in model.modules())


# Every shape and every part

base = XResNetSpec(depths=(1,1), widths=(16,32), expansion=1, stem_szs=(8,8,16), act='mish')
facts = dict(classes=list('abcd'), size=64)

def alive(model, x):
    """No scale is zero, and no statistic is what it began with, so that every path counts; attention without a softmax,
    which multiplies three features, counts as much as logits below a thousand allow"""
    for o in model.modules():
        if isinstance(o, nn.BatchNorm2d):
            nn.init.uniform_(o.weight, .5, 1.5)
            nn.init.normal_(o.bias, std=.1)
            nn.init.normal_(o.running_mean, std=.1)
            nn.init.uniform_(o.running_var, .5, 1.5)
    scales = [o.gamma for o in model.modules() if isinstance(getattr(o, 'gamma', None), nn.Parameter)]
    for k in range(3, 9):
        for o in scales: nn.init.constant_(o, 10**-k)
        with torch.no_grad(): y = model.eval()(x)
        if y.isfinite().all() and y.abs().max()<1000: break
    return model

def check_export(spec, tmp_path, size=64):
    """The files' logits are the network's within 1e-4, in relation to their size where that is above 1: as it was built
    and with the fast engine's layers, for another number of images than it was traced with"""
    torch.manual_seed(0)
    x = torch.rand(3, 3, size, size)
    plain = alive(build(spec, 4, size), (x-.5)/.25).eval()
    fast = copy.deepcopy(plain)
    fuse_layers(fast)
    use_gemm(fast)
    with torch.no_grad(): want = plain((x-.5)/.25).numpy()
    assert np.isfinite(want).all()
    for model,kind in ((fast, 'onnx'), (fast, 'pt2')):
        net = Portable(model, facts | dict(size=size), ((.5,)*3, (.25,)*3))
        got = run_file(write_export(net, tmp_path/f'a.{kind}'), x)
        assert not fast_layers(net)
        assert np.abs(got-want).max()/max(1, np.abs(want).max())<1e-4, kind

networks = dict(
    fast=dict(sa='simple_sa', pool='max_blur', stem_pool='max_blur', block='reduce_first', stem='whitening'),
    tresnet=dict(act='leaky', norm='inplace', pool='blur', attn='se_r4', stem='space_to_depth', stem_pool=None,
                 block='tresnet'),
    sagan=dict(sa='self_attention', block='dw_x2', stem='dw_x2', pool='max_blur_2020', conv='plain'),
    twist=dict(attn='simple_sa_sym', conv='twist', block='se_before_norm', act='relu'),
    se=dict(attn='se', conv='weighted_sum', block='wide', widths=(16,32), expansion=4, dropout=.5))

sample = 'fast','sagan'

@pytest.mark.parametrize('k', [pytest.param(o, marks=() if o in sample else pytest.mark.slow) for o in networks])
def test_networks(k, tmp_path): check_export(change(base, **networks[k]), tmp_path)

def with_part(kind, name):
    "A small network with a part, and what that part goes with"
    more = getattr(slots[kind][name], 'goes_with', None) or {}
    return change(base, **{kind:name} | dict(more))

@pytest.mark.slow
@pytest.mark.parametrize('kind,name', [(k, n) for k,reg in slots.items() for n in reg])
def test_every_part(kind, name, tmp_path): check_export(with_part(kind, name), tmp_path)

def shrunk(name):
    "A shape with one block a stage, and an eighth as wide where it can be"
    shape = archs[name]
    if not isinstance(shape, dict): return change(base, name)
    return change(base, name, depths=(1,)*len(shape['depths']), widths=tuple(max(32, o//8) for o in shape['widths']))

@pytest.mark.slow
@pytest.mark.parametrize('attn', (None, *attns))
@pytest.mark.parametrize('arch', archs)
def test_every_shape_with_every_attention(arch, attn, tmp_path):
    spec = shrunk(arch)
    if not isinstance(spec, XResNetSpec):
        if attn: pytest.skip('a whole network has no slot for an attention')
        return check_export(spec, tmp_path)
    check_export(change(spec, attn=attn), tmp_path)

@pytest.mark.slow
@pytest.mark.parametrize('name', ('timm:resnet18','timm:mobilenetv3_small_050','timm:vit_tiny_patch16_224'))
def test_timms_networks(name, tmp_path): check_export(change(base, name), tmp_path, 224 if 'vit' in name else 64)


# What a file says of itself, and what is refused

def test_what_a_file_says(row, tmp_path):
    want = dict(classes=breeds, size=32, resize='squish', record=row.id, seed=5)
    import onnxruntime
    session = onnxruntime.InferenceSession(row.export(tmp_path/'a.onnx', 5))
    assert {k:json.loads(v) for k,v in session.get_modelmeta().custom_metadata_map.items()}==want
    extra = {'woofbench.json':''}
    torch.export.load(row.export(tmp_path/'a.bin', 5, 'pt2'), extra_files=extra)
    assert json.loads(extra['woofbench.json'])==want

def test_from_the_command_line(row, cli, refused, images, tmp_path):
    out = row.path.parents[3]
    assert cli(f'export {row.id[:6]} {tmp_path}/a.onnx --seed 5 --out {out}')[0]==0
    x = pixels(sorted((images/'val').rglob('*.JPEG')), 32)
    assert np.abs(run_file(tmp_path/'a.onnx', x)-logits(row.learner(5))[0].numpy()).max()<1e-4
    assert 'there is onnx, pt2' in refused(f'export {row.id} {tmp_path}/a.h5 --out {out}')
    assert 'has no seed 9' in refused(f'export {row.id} {tmp_path}/a.pt2 --seed 9 --out {out}')

class Moody(nn.Module):
    "Decides by its images which way to go"
    def forward(self, x): return x.mean((2,3)) if x.sum()>0 else x.amax((2,3))

class Dice(nn.Module):
    "Another answer at every call"
    def forward(self, x): return x.mean((2,3))+torch.rand(len(x), 3)

class Diverged(nn.Module):
    "Its weights became infinite"
    def forward(self, x): return x.mean((2,3))/x.new_zeros(1)

@pytest.mark.parametrize('kind', formats)
@pytest.mark.parametrize('net', (Moody, Dice, Diverged))
def test_what_cannot_be_exported_is_named(net, kind, tmp_path):
    path = tmp_path/f'a.{kind}'
    path.write_bytes(b'earlier')
    with pytest.raises(BadInput, match=f'{net.__name__} cannot be exported as {kind}: '):
        write_export(Portable(net(), facts), path)
    assert path.read_bytes()==b'earlier' and len(list(tmp_path.iterdir()))==1

def test_without_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(BadInput, match=r"ONNX needs onnxruntime: pip install 'woofbench\[export\]'"):
        write_export(Portable(nn.Flatten(), facts, name='flat'), tmp_path/'a.onnx')
