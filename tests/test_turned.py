"Photos of a turned camera: upright wherever an image is read"
import hashlib, io
import numpy as np
import pytest, torch
from PIL import Image, ImageOps, features
import PIL
from woofbench import plan
from woofbench.data.images import image_size, to_rgb, turned
from woofbench.data.manifest import find, verify
from woofbench.data.own_images import own_images
from woofbench.data.store import load_store, make_store
from woofbench.data.track import make_track
from woofbench.files import cache_dir
from woofbench.train.learner import make_learner
from woofbench.train.machine import Machine

_turn = Image.Transpose
# How a camera lays down an upright image for each number in the EXIF data: what a viewer does, undone
laid = {1:None, 2:_turn.FLIP_LEFT_RIGHT, 3:_turn.ROTATE_180, 4:_turn.FLIP_TOP_BOTTOM, 5:_turn.TRANSPOSE,
        6:_turn.ROTATE_90, 7:_turn.TRANSVERSE, 8:_turn.ROTATE_270}
engines = pytest.mark.parametrize('engine', ('fastai','fast'))
formats = [o for o in ('png','jpg','tiff','webp') if o!='webp' or features.check('webp')]


def picture(i, w=40, h=28):
    "An upright image of which no turned or mirrored copy is the same"
    rng = np.random.default_rng(i)
    return Image.fromarray(rng.integers(0, 256, (5,7,3), dtype='uint8')).resize((w,h), Image.BICUBIC)

def photo(im, o, kind='png'):
    "The bytes of a file of the upright `im`, taken with a camera that was held as number `o` says"
    exif,out = Image.Exif(),io.BytesIO()
    exif[274] = o
    more = dict(png={}, jpg=dict(quality=100, subsampling=0), tiff={}, webp=dict(lossless=True))[kind]
    (im if laid[o] is None else im.transpose(laid[o])).save(out, dict(jpg='jpeg').get(kind, kind), exif=exif, **more)
    return out.getvalue()

def pixels(im): return np.asarray(im).astype(int)


@pytest.mark.parametrize('kind', formats)
@pytest.mark.parametrize('o', laid)
def test_a_photo_is_upright(o, kind, tmp_path):
    im,path = picture(0),tmp_path/f'a.{kind}'
    path.write_bytes(photo(im, o, kind))
    got = to_rgb(path.read_bytes(), path)
    assert got.mode=='RGB' and np.abs(pixels(got)-pixels(im)).mean()<(4 if kind=='jpg' else .001)
    assert image_size(path)==got.size[::-1]==(28, 40)
    assert np.array_equal(make_store([path])[0].numpy(), got)
    assert np.array_equal(got, ImageOps.exif_transpose(Image.open(path)).convert('RGB'))

@pytest.mark.parametrize('o', laid)
def test_an_image_is_turned_once(o):
    im = to_rgb(photo(picture(0), o), 'a.png')
    assert np.array_equal(turned(im), im) and np.array_equal(ImageOps.exif_transpose(im), im)
    assert im.convert('P').getexif().get(274, 1)==1

damaged = b'Exif\0\0nothing that can be read', b'Exif\0\0II*\0\x08\0\0\0\xff\xff', b'', b'II*'

@pytest.mark.parametrize('exif', damaged, ids=str)
def test_damaged_exif_data_turn_nothing(exif):
    im,out = picture(0),io.BytesIO()
    im.save(out, 'jpeg', exif=exif)
    assert np.array_equal(to_rgb(out.getvalue(), 'a.jpg'), Image.open(out))

@pytest.mark.parametrize('o', (0, 9, 270))
def test_a_number_that_means_nothing_turns_nothing(o):
    im,exif,out = picture(0),Image.Exif(),io.BytesIO()
    exif[274] = o
    im.save(out, 'png', exif=exif)
    assert np.array_equal(to_rgb(out.getvalue(), 'a.png'), im)


# A folder of photos, each of them upright and taken with a turned camera

@pytest.fixture(scope='module')
def both(tmp_path_factory):
    "Two folders with the same photos, and the names under which they are datasets"
    home = tmp_path_factory.mktemp('photos')
    for name in ('upright','turned'):
        for split,n in (('train',24), ('val',16)):
            for i in range(n):
                path = home/f'photos-{name}'/split/'ab'[i%2]/f'{i:02}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                o = i//2%8+1 if name=='turned' else 1
                path.write_bytes(photo(picture(1000*(split=='val')+i), o))
    return [own_images(home/f'photos-{o}').name for o in ('upright','turned')]

def batches(name, engine):
    "The first batch of training and that of validation, as a network gets them"
    job,seen = plan(name, size=32, arch='xresnet10_tiny', bs=8, epochs=1),[]
    learn = make_learner(job, 0, Machine(device=torch.device('cpu'), workers=0, engine=engine))
    learn.model.register_forward_pre_hook(lambda m, x: seen.append(x[0].detach().clone()))
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 0.)
    return torch.cat([o.as_subclass(torch.Tensor) for o in seen]), learn

@engines
def test_engines_see_photos_upright(both, engine):
    (a,_),(b,_) = (batches(o, engine) for o in both)
    assert a.shape==b.shape and torch.equal(a, b)

@engines
def test_a_learner_predicts_upright(both, engine):
    _,learn = batches(both[1], engine)
    im = picture(3)
    with learn.no_bar():
        want = learn.predict(im)[2]
        for o in laid:
            raw = photo(im, o)
            for x in (raw, Image.open(io.BytesIO(raw))): assert torch.allclose(learn.predict(x)[2], want, atol=1e-6), o

def test_a_store_of_sideways_photos_is_not_taken(both):
    "One that was made before photos were turned has another key"
    track = make_track(both[1], 32)
    m = verify(find(track), track.dataset)
    old = ['woofpix2', m.sha256, 'val', PIL.__version__, *(str(features.version(o)) for o in ('jpg','libjpeg_turbo'))]
    name = f'store-{hashlib.sha256(chr(10).join(old).encode()).hexdigest()[:16]}.rgb'
    assert len(load_store(m, 'val'))==16 and not (cache_dir()/name).exists()
    upright = make_store([m.root/o for o in m.val])
    assert torch.equal(load_store(m, 'val').pixels, upright.pixels)
