"The data half of the fast engine: a store that survives what happens to files, and crops that are fastai's"
import os, random, signal, threading, time
from pathlib import Path
from unittest.mock import patch
import numpy as np
import PIL
import pytest
import torch
from PIL import Image, ImageOps
from woofbench import files
from woofbench.data import store as store_module
from woofbench.data.crops import Pieces, crop, crop_boxes, val_squares
from woofbench.files import cache_dir
from woofbench.data.manifest import verify
from woofbench.registry import BadInput
from woofbench.data.store import Store, load_store, make_store
from warm import Program

here = Path(__file__).parent


@pytest.fixture
def m(tiny, tmp_path, monkeypatch):
    "The manifest of a tiny dataset, and an empty cache"
    monkeypatch.setenv('WOOFBENCH_CACHE', str(tmp_path/'cache'))
    return verify(tiny, 'imagewoof')

@pytest.fixture
def no_decoding(monkeypatch):
    "Call it, and nothing can be decoded any more"
    def _f(*args, **kw): raise AssertionError('images were decoded again')
    return lambda: monkeypatch.setattr(store_module, '_decode', _f)

def kept(): return sorted(o.name for o in cache_dir().glob('*store-*'))
def same(a, b):
    return torch.equal(a.pixels, b.pixels) and torch.equal(a.offsets, b.offsets) and torch.equal(a.sizes, b.sizes)

def by_fastai(path):
    from fastai.vision.core import PILImage
    return np.array(ImageOps.exif_transpose(PILImage.create(path)))


# The store

def test_pixels_are_fastais_and_kept(m, no_decoding):
    a = {o:load_store(m, o) for o in ('train','val')}
    for split,s in a.items():
        paths = getattr(m, split)
        assert len(s)==len(paths) and s.nbytes==sum(x.numel() for x in s)
        for p,x in zip(paths, s): assert np.array_equal(x.numpy(), by_fastai(m.root/p))
    assert len(kept())==2
    no_decoding()
    for split,s in a.items(): assert same(load_store(m, split), s)

def test_store_in_memory_leaves_no_file(m):
    assert same(load_store(m, 'val', cache=False), load_store(m, 'val', cache=False, workers=1)) and not kept()

def test_index_is_checked(m):
    s = load_store(m, 'val')
    for i in (-1, len(s)):
        with pytest.raises(IndexError): s[i]
    with pytest.raises(BadInput, match='train or val'): load_store(m, 'test')
    with pytest.raises(BadInput, match='no images'): make_store([])

def save(folder):
    "Files of all kinds; their names"
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (5,7,3), dtype='uint8')).resize((37,21), Image.BICUBIC)
    turned = Image.Exif()
    turned[274] = 6
    kinds = dict(rgb=('jpg', rgb, {}), progressive=('jpg', rgb, dict(progressive=True)),
                 fine=('jpg', rgb, dict(quality=100, subsampling=0)), rgb_inside=('jpg', rgb, dict(keep_rgb=True)),
                 restarts=('jpg', rgb, dict(restart_marker_rows=1)), grey=('jpg', rgb.convert('L'), {}),
                 cmyk=('jpg', rgb.convert('CMYK'), {}), exif=('jpg', rgb, dict(exif=turned)),
                 two=('jpg', rgb, dict(format='MPO', save_all=True, append_images=[rgb])),
                 webp=('jpg', rgb, dict(format='WEBP')), one_px=('jpg', rgb.resize((1,1)), {}),
                 line=('jpg', rgb.resize((1,99)), {}),
                 palette=('png', rgb.quantize(8), {}), clear=('png', rgb.quantize(8), dict(transparency=3)),
                 alpha=('png', rgb.convert('RGBA'), {}), grey_alpha=('png', rgb.convert('LA'), {}),
                 bits=('png', rgb.convert('1'), {}),
                 keyed=('png', rgb, dict(transparency=(1,2,3))))
    folder.mkdir()
    for name,(ext,im,kw) in kinds.items(): im.save(folder/f'{name}.{ext}', **kw)
    return sorted(folder.iterdir())

def test_all_kinds_of_files(tmp_path):
    paths = save(tmp_path/'kinds')
    for p,x in zip(paths, make_store(paths)): assert np.array_equal(x.numpy(), by_fastai(p)), p.name

def test_damaged_files_are_decoded_as_fastai_does_or_named(tmp_path):
    raw = next(o for o in save(tmp_path/'kinds') if o.name=='rgb.jpg').read_bytes()
    rng,p,named = random.Random(0),tmp_path/'x.jpg',0
    for i in range(100):
        bad = bytearray(raw)
        if i%4==0: bad = bad[:rng.randrange(len(bad))]
        else: bad[rng.randrange(len(bad))] = rng.randrange(256)
        p.write_bytes(bad)
        try: x = make_store([p])[0]
        except BadInput as e:
            assert 'x.jpg' in str(e)
            named += 1
        else: assert np.array_equal(x.numpy(), by_fastai(p)), i
    assert 20<named<80

@pytest.mark.parametrize('raw', [b'', b'not an image', b'\xff\xd8\xff\xe0'])
def test_a_broken_image_is_named(tmp_path, raw):
    (tmp_path/'bad.jpg').write_bytes(raw)
    with pytest.raises(BadInput, match='bad.jpg .*cannot be read as an image'):
        make_store([*save(tmp_path/'kinds'), tmp_path/'bad.jpg'])

def test_progress_is_reported(m):
    seen = []
    def bar(it, total=None, desc=''):
        for o in it:
            seen.append((total, desc))
            yield o
    load_store(m, 'train', progress=bar)
    assert seen==[(24, 'decode')]*24


# Its cache

def test_any_changed_byte_in_the_head_is_seen(m):
    load_store(m, 'val')
    s = load_store(m, 'val', cache=False)
    path, = cache_dir().glob('store-*.rgb')
    raw,key = path.read_bytes(),store_module._key(m, 'val')
    for i in range(store_module._head.size + 20*len(s)):
        path.write_bytes(raw[:i]+bytes([raw[i]^0x10])+raw[i+1:])
        assert store_module._open(path, key, len(s)) is None, i
    for n in (0, 7, 79, 80, 100, 4095, 4096, len(raw)//2, len(raw)-1): # cut short
        path.write_bytes(raw[:n])
        assert store_module._open(path, key, len(s)) is None, n
    assert same(load_store(m, 'val'), s) and path.read_bytes()==raw

def test_another_manifest_split_or_pillow_has_its_own_file(m, monkeypatch):
    load_store(m, 'train')
    load_store(m, 'val')
    monkeypatch.setattr(PIL, '__version__', '1.1.7')
    load_store(m, 'val')
    (m.root/m.val[0]).write_bytes((m.root/m.val[1]).read_bytes())
    load_store(verify(m.root, 'imagewoof'), 'val')
    assert len(kept())==4

def test_a_folder_in_the_way(m):
    s = load_store(m, 'val')
    path, = cache_dir().glob('store-*.rgb')
    path.unlink()
    path.mkdir()
    assert same(load_store(m, 'val'), s) and kept()==[path.name]

def test_cache_that_cannot_be_written(m, tmp_path, monkeypatch):
    s = load_store(m, 'val', cache=False)
    (tmp_path/'file').write_text('')
    monkeypatch.setenv('WOOFBENCH_CACHE', str(tmp_path/'file/cache'))
    assert same(load_store(m, 'val'), s)
    monkeypatch.setenv('WOOFBENCH_CACHE', str(tmp_path/'read-only'))
    (tmp_path/'read-only').mkdir(mode=0o500)
    assert same(load_store(m, 'val'), s)
    if os.geteuid(): assert not kept() # root may write anywhere

def test_decoding_needs_no_memory_for_the_whole(m, monkeypatch):
    "With a cache the pixels go to the file one image at a time, and are mapped from there"
    s = load_store(m, 'train', cache=False)
    def _f(n, device='cpu', why=''): raise AssertionError(f'{n} bytes of memory were asked for')
    with monkeypatch.context() as p:
        p.setattr(store_module, '_memory', _f)
        a = load_store(m, 'train')
    assert same(a, s) and len(kept())==1
    monkeypatch.setattr(store_module, '_memory', _f)
    with pytest.raises(AssertionError, match=str(s.nbytes)): load_store(m, 'train', cache=False)

def test_too_much_for_memory_is_said(m, monkeypatch):
    def _f(*args, **kw): raise RuntimeError('not enough memory')
    monkeypatch.setattr(torch, 'empty', _f)
    with pytest.raises(BadInput, match='kept on disk'): load_store(m, 'train', cache=False)

def test_a_broken_image_leaves_no_file(m):
    (m.root/m.train[3]).write_bytes(b'')
    with pytest.raises(BadInput, match=Path(m.train[3]).name): load_store(m, 'train')
    assert not kept()

def test_a_disk_that_takes_a_part_of_a_write(m, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, 'pwrite', lambda fd, x, at: pwrite(fd, bytes(x[:7]) if len(x)<4096 else x, at))
    assert same(load_store(m, 'val'), load_store(m, 'val', cache=False)) and len(kept())==1

def test_nearly_full_disk(m, monkeypatch):
    monkeypatch.setattr(store_module.shutil, 'disk_usage', lambda p: type('Usage', (), dict(free=1000)))
    assert same(load_store(m, 'val'), load_store(m, 'val', cache=False)) and not kept()

def python(code, *args, **env):
    return Program(['-c', code, *args], cwd=here, env=os.environ|env)

builder = '''
import os, resource, signal, sys, time
from pathlib import Path
from woofbench.data import store
from woofbench.data.manifest import verify
root,how = Path(sys.argv[1]),sys.argv[2]
m = verify(root, 'imagewoof')
if how=='full': resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)); signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if how=='kill': os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)
if how=='race':
    (root.parent/f'here-{os.getpid()}').touch()
    while len(list(root.parent.glob('here-*')))<2: time.sleep(.01)
s = store.load_store(m, 'val')
assert s.pixels.sum()==store.load_store(m, 'val', cache=False).pixels.sum()
'''

@pytest.mark.skipif(os.name!='posix', reason='limits of processes')
def test_disk_that_fills_up_while_writing(m):
    p = python(builder, m.root, 'full')
    assert p.wait(120)==0, p.communicate()
    assert not kept()

@pytest.mark.skipif(os.name!='posix', reason='signals')
def test_killed_while_writing(m):
    p = python(builder, m.root, 'kill')
    assert p.wait(120)==-signal.SIGKILL, p.communicate()
    left, = kept()
    assert left.endswith('.tmp')
    for days in (0, -30, 30): # whatever its date says
        os.utime(cache_dir()/left, (time.time()+days*86400,)*2)
    load_store(m, 'train')
    assert left not in kept() and len(kept())==1

def test_what_a_living_process_writes_is_left_alone(m):
    cache_dir().mkdir(parents=True, exist_ok=True)
    old = cache_dir()/'store-0123456789abcdef.rgb'
    old.write_bytes(b'woofpix1 of an older version')
    f,tmp = files._new(old)
    with f:
        load_store(m, 'train')
        assert tmp.name in kept() and old.name not in kept()
    load_store(m, 'val')
    assert tmp.name not in kept()

def test_two_processes_build_at_once(m, no_decoding):
    ps = [python(builder, m.root, 'race') for _ in range(2)]
    for p in ps: assert p.wait(120)==0, p.communicate()
    name, = kept()
    assert name.endswith('.rgb')
    s = load_store(m, 'val', cache=False)
    no_decoding()
    assert same(load_store(m, 'val'), s)

def test_threads_build_at_once(m):
    res = []
    ts = [threading.Thread(target=lambda: res.append(load_store(m, 'train', workers=2))) for _ in range(4)]
    for t in ts: t.start()
    for t in ts: t.join()
    assert len(kept())==1 and len(res)==4 and all(same(o, res[0]) for o in res)


# What happens to it

def changed(path, at, by=0x10):
    raw = bytearray(path.read_bytes())
    raw[at] ^= by
    path.write_bytes(raw)

def test_a_changed_pixel_is_seen_at_the_start(m):
    s = load_store(m, 'val', cache=False)
    load_store(m, 'val')
    path, = cache_dir().glob('store-*.rgb')
    for _ in range(20):
        changed(path, random.randrange(store_module._start(len(s)), path.stat().st_size))
        assert same(load_store(m, 'val'), s)

@pytest.mark.parametrize('what', ['byte', 'cut', 'empty', 'swapped'])
def test_a_store_changed_in_use_ends_in_a_sentence(m, what):
    s,whole = load_store(m, 'train'),load_store(m, 'train', cache=False)
    path, = cache_dir().glob('store-*.rgb')
    args = torch.arange(len(s)),torch.tensor([[0,0,*o] for o in s.sizes.tolist()]),torch.zeros(len(s), dtype=torch.bool)
    assert torch.equal(crop(s, Pieces(*args), 32), crop(whole, Pieces(*args), 32))
    start,n = store_module._start(len(s)),int(s.sizes[0].prod())*3
    raw = path.read_bytes()
    if what=='byte': changed(path, start+n+5)
    if what=='cut': os.truncate(path, start+n+5)
    if what=='empty': os.truncate(path, 0)
    if what=='swapped': # two images of one size
        with open(path, 'r+b') as f:
            f.seek(start)
            f.write(raw[start+n:start+2*n] + raw[start:start+n])
    for call in (lambda: crop(s, Pieces(*args), 32), lambda: val_squares(s, 32), lambda: s.to('cpu').pixels,
                 lambda: [s[i] for i in range(len(s))]):
        with pytest.raises(BadInput, match='run the same command again'): call()
    assert not path.exists() and same(load_store(m, 'train'), whole)

def test_a_sample_is_compared_at_the_start_and_the_rest_in_use(m, monkeypatch):
    s = load_store(m, 'train')
    assert list(s.kept.sample())==list(range(24)) and len(s.kept.sample(s.nbytes//3))==8
    monkeypatch.setattr(store_module.PixelFile, 'sample', lambda self: [0])
    changed(s.kept.path, -1)
    s = load_store(m, 'train')
    with pytest.raises(BadInput, match='image 24 of 24'): val_squares(s, 32)

def test_a_store_in_a_file_is_copied_and_sent(m):
    import copy, pickle
    s = load_store(m, 'val')
    assert same(copy.deepcopy(s), s) and same(pickle.loads(pickle.dumps(s)), s)

def test_an_image_exchanged_after_verification_is_refused(m):
    p = m.root/m.train[3]
    stat = p.stat()
    other = (m.root/m.train[4]).read_bytes()
    p.write_bytes(other)
    os.utime(p, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    for cache in (True, False):
        with pytest.raises(BadInput, match=f'{p.name} has changed since it was verified'):
            load_store(m, 'train', cache=cache)
    assert not kept()


# Which crops

class Replay:
    "Stands in for `random`: gives fastai the numbers of one row of `u`"
    def __init__(self, u): self.tries,self.corner = iter([o for ar in zip(u[:10], u[10:20]) for o in ar]),iter(u[20:])
    def uniform(self, a, b): return a + (b-a)*next(self.tries)
    def randint(self, a, b): return a + int(next(self.corner)*(b-a+1))

@pytest.mark.parametrize('min_scale,ratio',
                         [(.35, (3/4,4/3)), (.08, (3/4,4/3)), (.9, (.5,2.)), (1., (1.,1.)), (.6, (1.5,3.))])
def test_fastai_draws_the_same_boxes_from_the_same_numbers(min_scale, ratio):
    from fastai.vision import augment
    g = torch.Generator().manual_seed(0)
    sizes = torch.cat([torch.randint(3, 700, (600,2), generator=g),
                       torch.tensor([[300,400],[400,300],[3,4],[1,1],[1,900],[900,1],[75,100],[333,250]])])
    u = torch.rand(len(sizes), 22, dtype=torch.float64, generator=g.manual_seed(1))
    ref,t = [],augment.RandomResizedCrop(8, min_scale=min_scale, ratio=ratio)
    for (h,w),row in zip(sizes.tolist(), u.tolist()):
        with patch.object(augment, 'random', Replay(row)): t.before_call(Image.new('L', (w,h)), 0)
        ref.append((t.tl[1], t.tl[0], t.cp_size[1], t.cp_size[0]))
    assert torch.equal(crop_boxes(sizes, min_scale, ratio, g.manual_seed(1)), torch.tensor(ref))

def test_distributions_agree():
    "Kolmogorov-Smirnov, fastai with its own random numbers; seeds are fixed, so this is the same every time"
    from fastai.vision.augment import RandomResizedCrop
    from scipy.stats import ks_2samp
    random.seed(1)
    t,n,ps = RandomResizedCrop(8, min_scale=.35),1500,[]
    for h,w in ((160,160), (160,240), (300,160), (160,420)):
        im,ref = Image.new('L', (w,h)),[]
        for _ in range(n):
            t.before_call(im, 0)
            ref.append((t.tl[1], t.tl[0], t.cp_size[1], t.cp_size[0]))
        ours = crop_boxes(torch.tensor([[h,w]]).repeat(n, 1), generator=torch.Generator().manual_seed(h+w)).double()
        for k in range(4): ps.append(ks_2samp(torch.tensor(ref)[:,k], ours[:,k]).pvalue)
        ps.append(ks_2samp(torch.tensor(ref)[:,2:].prod(1), ours[:,2:].prod(1)).pvalue)
    assert len(ps)==20 and min(ps)>.05/20, ps


# What they look like

def cases(seed=0):
    "A store of images of odd sizes, and crops of it: random, whole, single columns, rows and pixels"
    rng,g = np.random.default_rng(seed),torch.Generator().manual_seed(seed)
    shapes = [(1,1), (1,57), (83,1), (33,40), (97,131), (200,64), (64,200), (150,100), (260,190), (31,500)]
    images = [rng.integers(0, 256, (h,w,3), dtype='uint8') for h,w in shapes]
    # black and white; white stays white
    images[4],images[8] = (images[4]>127).astype('uint8')*255, np.full_like(images[8], 255)
    sizes = torch.tensor(shapes)
    ends = (3*sizes.prod(1)).cumsum(0)
    s = Store(torch.cat([torch.from_numpy(o).flatten() for o in images]), ends-3*sizes.prod(1), sizes)
    idx = torch.arange(10).repeat(4)
    boxes = crop_boxes(sizes.repeat(4,1), generator=g)
    boxes[10:20] = torch.cat([torch.zeros(10,2, dtype=torch.int64), sizes], 1)
    boxes[20:30,3] = 1
    boxes[30:35,2] = 1
    boxes[35:40,2:] = 1
    return s, idx, boxes, torch.rand(40, generator=g)<.5

def by_pillow(s, idx, boxes, flips, size):
    res = []
    for i,(y,x,h,w),flip in zip(idx.tolist(), boxes.tolist(), flips.tolist()):
        im = Image.fromarray(s[i].numpy()).crop((x,y,x+w,y+h)).resize((size,size), Image.BILINEAR)
        res.append(np.array(im)[:,::-1 if flip else 1])
    return torch.from_numpy(np.stack(res))

def check(way, device='cpu', sizes=(8,33,64,128), step=1):
    "Largest difference to Pillow in grey levels, and the share of values that are equal"
    worst,equal,total = 0,0,0
    for size in sizes:
        s,*args = cases(size)
        args = [o[::step] for o in args]
        off = (crop(s.to(device), Pieces(*args), size, way=way).cpu().int()-by_pillow(s, *args, size).int()).abs()
        worst,equal,total = max(worst, int(off.max())),equal+int((off==0).sum()),total+off.numel()
    return worst, equal/total

@pytest.mark.parametrize('way', ['pillow','gather'])
def test_crops_are_pillows(way): assert check(way)==(0, 1.)

def test_kernel_is_pillow():
    "In Triton's interpreter, which is chosen by the environment before Triton is imported"
    pytest.importorskip('triton')
    p = python('import test_fast_data as t; assert t.check("kernel", sizes=(16,), step=3)==(0, 1.)',
               TRITON_INTERPRET='1')
    assert p.wait(300)==0, p.communicate()

@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_crops_on_a_gpu_are_pillows():
    pytest.importorskip('triton')
    assert check('kernel', 'cuda', (8,33,64,128,224))==check('gather', 'cuda')==(0, 1.)
    s,*args = cases()
    out = torch.empty(40, 32, 32, 3, dtype=torch.uint8, device='cuda')
    assert crop(s.to('cuda'), Pieces(*args), 32, out=out) is out and torch.equal(out.cpu(), by_pillow(s, *args, 32))

@pytest.mark.parametrize('way', ['pillow','gather'])
def test_large_images(way):
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1500,2000,3), dtype='uint8'))
    x[:,::2] = 255 # sums near their largest value
    s = Store(x.flatten(), torch.tensor([0]), torch.tensor([[1500,2000]]))
    args = torch.tensor([0,0]), torch.tensor([[0,0,1500,2000], [0,700,1500,300]]), torch.tensor([True,False])
    assert torch.equal(crop(s, Pieces(*args), 24, way=way), by_pillow(s, *args, 24))

def test_order_of_passes_follows_pillows_version(monkeypatch):
    "Up to Pillow 12 the horizontal pass was always the first"
    monkeypatch.setattr(PIL, '__version__', '12.0.0')
    s,*args = cases()
    ref = []
    for i,(y,x,h,w),flip in zip(*(o.tolist() for o in args)):
        im = Image.fromarray(s[i].numpy()).crop((x,y,x+w,y+h)).resize((32,h), Image.BILINEAR).resize((32,32),
                Image.BILINEAR)
        ref.append(np.array(im)[:,::-1 if flip else 1])
    assert torch.equal(crop(s, Pieces(*args), 32, way='gather'), torch.from_numpy(np.stack(ref)))

def test_chunks_do_not_matter(monkeypatch):
    from woofbench.data import crops
    s,*args = cases()
    ref,whole = crop(s, Pieces(*args), 40, way='gather'),crops._chunks
    for budget in (1, 40*40, 10**5):
        monkeypatch.setattr(crops, '_chunks', lambda plan, size, b=budget: whole(plan, size, b))
        assert torch.equal(crop(s, Pieces(*args), 40, way='gather'), ref)

def test_threads_do_not_matter():
    s,*args = cases()
    ref = crop(s, Pieces(*args), 64, workers=1)
    for workers in (2, 3, 100): assert torch.equal(crop(s, Pieces(*args), 64, workers=workers), ref)
    assert torch.equal(val_squares(s, 32, workers=1), val_squares(s, 32, workers=3))

def test_part_of_a_buffer():
    "The pixels may begin within a larger tensor, e.g. behind a header"
    s,*args = cases()
    part = Store(torch.cat([torch.zeros(5, dtype=torch.uint8), s.pixels])[5:], s.offsets, s.sizes)
    for way in ('pillow','gather'):
        assert torch.equal(crop(part, Pieces(*args), 32, way=way), crop(s, Pieces(*args), 32, way=way))

def test_floats_are_fastais_transforms_of_the_crops():
    "Conversion and normalisation of a batch and of single images, to the bit; and a way that makes none says so"
    from fastai.data.transforms import IntToFloatTensor, Normalize
    from fastai.vision.core import TensorImage, imagenet_stats
    from fasttransform import Pipeline
    from woofbench.data.crops import ToFloat
    s,*args = cases()
    ref = crop(s, Pieces(*args), 32)
    for stats in (imagenet_stats, None):
        f = ToFloat(255., *map(torch.tensor, stats or ()))
        fastais = Pipeline([IntToFloatTensor(),
                            *([Normalize.from_stats(*stats, cuda=False)] if stats else [])])(TensorImage(ref.permute(0,
                                    3,1,2))).permute(0,2,3,1).as_subclass(torch.Tensor)
        assert torch.equal(f(ref), fastais) and torch.equal(crop(s, Pieces(*args), 32, to_float=f),
                                                            fastais) and torch.equal(crop(s, Pieces(*args), 32,
                                                                    to_float=f, workers=3), fastais)
    with pytest.raises(ValueError, match='gather makes no floats'): crop(s, Pieces(*args), 32, way='gather', to_float=f)
    with pytest.raises(ValueError, match='out must be'):
        crop(s, Pieces(*args), 32, to_float=f, out=torch.empty(40,32,32,3, dtype=torch.uint8))

def test_wrong_crops_are_refused():
    s,idx,boxes,flips = cases()
    for k,by in ((0,-1000), (1,-1000), (0,1000), (1,1000), (2,1000), (3,1000), (2,-1000), (3,-1000)):
        bad = boxes.clone()
        bad[7,k] += by
        with pytest.raises(ValueError, match='not within its image'): crop(s, Pieces(idx, bad, flips), 32)
    with pytest.raises(IndexError): crop(s, Pieces(idx+1, boxes, flips), 32)
    for out in (torch.empty(40,32,32,3), torch.empty(40,3,32,32, dtype=torch.uint8).permute(0,2,3,1),
                torch.empty(39,32,32,3, dtype=torch.uint8)):
        with pytest.raises(ValueError, match='out must be'): crop(s, Pieces(idx, boxes, flips), 32, out=out)

@pytest.mark.parametrize('size', [8, 33, 64])
def test_squish_is_fastais_validation(size):
    from fastai.vision.augment import RandomResizedCrop
    from fastai.vision.core import PILImage
    s = cases()[0]
    t = RandomResizedCrop(size)
    for x,im in zip(val_squares(s, size), s):
        assert np.array_equal(x.numpy(), np.array(t(PILImage.create(im.numpy()), split_idx=1)))

def test_one_epoch_from_disk_is_fastais(m):
    "From files to batches: fastai's transforms with the boxes that were drawn here"
    from fastai.vision.augment import RandomResizedCrop
    from fastai.vision.core import PILImage
    s = load_store(m, 'train')
    g = torch.Generator().manual_seed(0)
    boxes,flips = crop_boxes(s.sizes, generator=g),torch.rand(len(s), generator=g)<.5
    ours = [crop(s, Pieces(torch.arange(len(s)), boxes, flips), 32, way=way) for way in ('pillow','gather')]
    t = RandomResizedCrop(32)
    t.final_size = t.size
    for i,p in enumerate(m.train):
        im = PILImage.create(m.root/p)
        y,x,h,w = boxes[i].tolist()
        t.orig_sz,t.tl,t.cp_size = im.size,(x,y),(w,h)
        ref = t.encodes(im)
        ref = torch.from_numpy(np.array(ref.flip_lr() if flips[i] else ref))
        assert all(torch.equal(o[i], ref) for o in ours)
