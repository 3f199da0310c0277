"Images, labels and augmentations: what reaches the network is what the record says"
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from conftest import tiny_dataset
from woofbench import learner

engines = pytest.mark.parametrize('engine', ('fastai','fast'))

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tiny_dataset(tmp_path_factory.mktemp('data'), n_train=16, n_val=8)

def make(folder, **kw):
    "A small learner that shows nothing"
    usual = dict(size=32, arch='xresnet10_tiny', act='mish', bs=8, workers=0)
    res = learner('imagenette', data=folder, **usual|kw)
    res.remove_cb(ProgressCallback)
    res.logger = lambda *a: None
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
