"Images, labels and augmentations: what reaches the network is what the record says"
import copy, pickle
import pytest
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.progress import ProgressCallback
from fastai.learner import load_learner
from fastcore.basics import noop
from conftest import tiny_dataset
from woofbench import learner, plan, run
from woofbench.data.augment import Augment
from woofbench.data.own_images import as_dataset
from woofbench.registry import BadInput
from woofbench.train.export import write_export
from woofbench.train.imports import import_parts

engines = pytest.mark.parametrize('engine', ('fastai','fast'))

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tiny_dataset(tmp_path_factory.mktemp('data'), n_train=16, n_val=8)

def make(folder, **kw):
    "A small learner that shows nothing"
    usual = dict(size=32, arch='xresnet10_tiny', act='mish', bs=8, workers=0)
    res = learner('imagenette', data=folder, **usual|kw)
    res.remove_cb(ProgressCallback)
    res.logger = noop
    return res


class Merge(Callback):
    "Classes b and c are one"
    def before_batch(self): self.y[self.y==2] = 1

def test_a_callback_that_changes_classes_leaves_those_of_the_next_learner_alone(folder):
    learn = make(folder, engine='fast')
    was = learn.fast_data.data.valid_y.clone()
    learn.fit(1, 1e-3, cbs=Merge())
    assert was.bincount().tolist()==[8,8,8]
    assert torch.equal(make(folder, engine='fast').fast_data.data.valid_y, was)


# Copies and files of a learner with an augmentation

def keys_of(learn):
    "The epoch and the image numbers of every batch that the augmentation of `learn` will get"
    augment,res = next(o.augment for o in learn.cbs if hasattr(o, 'augment')),[]
    was = augment.next_key
    def seen(n):
        res.append(was(n))
        return res[-1]
    augment.next_key = seen
    return res

@engines
@pytest.mark.parametrize('kw', (dict(aug='alternate_flip', flip=0.), dict(aug='mix')), ids=lambda o: o['aug'])
@pytest.mark.parametrize('trained', (False,True))
def test_a_copy_of_a_learner_augments_its_own_images(folder, engine, kw, trained):
    learn = make(folder, engine=engine, **kw)
    if trained: learn.fit(1, 1e-3)
    twin = copy.deepcopy(learn)
    first,second = keys_of(learn),keys_of(twin)
    twin.fit(2, 1e-3)
    assert not first and [o.epoch for o in second]==[0]*6+[1]*6
    for e in (0,1): assert sorted(i for o in second if o.epoch==e for i in o.index)==list(range(48))
    inside = [o for o in twin.dls.train.after_batch.fs if isinstance(o, Augment)]
    assert inside==([] if kw['aug']=='mix' else [twin.augmented.augment])

@engines
def test_a_learner_from_a_file_predicts_and_does_not_train_without_its_augmentation(folder, engine, tmp_path):
    for aug in ('jitter_affine','mix'):
        learn = make(folder, engine=engine, aug=aug)
        learn.export(tmp_path/'e.pkl')
        back,image = load_learner(tmp_path/'e.pkl'),folder/'val'/'a'/'a_val_0.JPEG'
        with learn.no_bar(), back.no_bar():
            assert torch.allclose(back.predict(image)[2], learn.predict(image)[2], atol=1e-4)
        back = pickle.loads(pickle.dumps(learn))
        with pytest.raises(BadInput, match='does not hold its augmentation') as e: back.fit(1, 1e-3)
        back.remove_cb(getattr(back, str(e.value).split('learn.')[-1].rstrip(')')))
        back.fit(1, 1e-3)

class Stop(Callback):
    def __init__(self, what): self.what = what
    def after_batch(self):
        if self.iter==4: raise self.what

@engines
@pytest.mark.parametrize('stops', (None, KeyboardInterrupt, CancelFitException))
def test_training_images_can_be_read_after_a_fit_with_an_augmentation(folder, engine, stops):
    learn = make(folder, engine=engine, aug='trivial')
    if stops is not KeyboardInterrupt: learn.fit(1, 1e-3, cbs=stops and Stop(stops))
    else:
        with pytest.raises(KeyboardInterrupt): learn.fit(1, 1e-3, cbs=Stop(stops))
    with learn.no_bar():
        assert learn.dls.one_batch()[0].shape==(8,3,32,32)
        assert len(learn.get_preds(ds_idx=0)[0])==48
        assert len(learn.validate(ds_idx=0))==3 and len(learn.tta(n=2)[0])==24 and learn.summary()
        learn.dls.show_batch(max_n=2)
    learn.fit(1, 1e-3)

@engines
@pytest.mark.parametrize('kw', (dict(mixup=.4), dict(aug='mix')), ids=str)
def test_a_fit_with_mixed_classes_can_be_interrupted_and_begun_again(folder, engine, kw):
    learn = make(folder, engine=engine, **kw)
    loss = learn.loss_func
    with pytest.raises(KeyboardInterrupt): learn.fit(1, 1e-3, cbs=Stop(KeyboardInterrupt))
    assert learn.loss_func is loss
    learn.fit(1, 1e-3)


# What a callback sees of mixup and cutmix

class Keep(Callback):
    order = 70
    def before_fit(self): self.seen = []
    def after_pred(self):
        if not self.training: return
        mix = self.learn.mix_up if hasattr(self.learn, 'mix_up') else self.learn.cut_mix
        self.seen.append([(o, o.clone()) for o in (mix.lam, mix.yb1[0])])

@engines
@pytest.mark.parametrize('kw', (dict(mixup=.4), dict(cutmix=1.)), ids=str)
def test_shares_and_classes_of_a_batch_stay_as_a_callback_keeps_them(folder, engine, kw):
    keep = Keep()
    make(folder, engine=engine, **kw).fit(2, 1e-3, cbs=keep)
    assert len(keep.seen)==12 and all(torch.equal(a, b) for row in keep.seen for a,b in row)


# Paths that begin with ~

@pytest.mark.parametrize('f', (lambda o: run('digits', out=o, seeds=1), lambda o: as_dataset(f'{o}/pets'),
                               lambda o: plan('imagewoof', data=o), lambda o: import_parts(f'{o}/part.py'),
                               lambda o: write_export(None, f'{o}/net.onnx')))
def test_the_home_folder_of_an_unknown_user_is_refused(f):
    with pytest.raises(BadInput, match='begins with ~no-such-user, and there is no such user'): f('~no-such-user/x')

def test_a_cache_in_the_home_folder_of_an_unknown_user_is_refused(monkeypatch, tmp_path, cli):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('WOOFBENCH_CACHE', '~no-such-user/x')
    rc,_,err = cli('run --seeds 1 --epochs 1 --out out')
    assert rc==2 and 'there is no such user' in err and len(err.splitlines())==1 and not [*tmp_path.glob('~*')]
