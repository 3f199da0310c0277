"""A loss of your own

woofbench run --dataset digits --import loss.py --loss focal --loss-gamma 1.5
"""
from torch import nn
from torch.nn import functional as F
from woofbench import losses, Param


class Focal(nn.Module):
    "Cross-entropy in which images that are right already count less, https://arxiv.org/abs/1708.02002"
    y_int = True  # labels are numbers of classes; mixup asks for it

    def __init__(self, gamma, smooth, reduction='mean'):
        super().__init__()
        self.gamma, self.smooth, self.reduction = gamma, smooth, reduction

    def forward(self, pred, y):
        right = pred.softmax(-1).gather(1, y[:, None])[:, 0]
        loss = (1 - right) ** self.gamma * F.cross_entropy(pred, y, reduction='none', label_smoothing=self.smooth)
        # mixup and the measurement of the loss of each image ask for 'none'
        return loss if self.reduction == 'none' else loss.sum() if self.reduction == 'sum' else loss.mean()

    # What fastai's Learner shows: probabilities, and classes
    def activation(self, x): return x.softmax(-1)
    def decodes(self, x): return x.argmax(-1)


@losses.register('focal', params=dict(gamma=Param(2., 'How much less they count', 0, 10)))
def focal(r, *, gamma):
    "Focal loss, with the recipe's label smoothing"
    return Focal(gamma, r.smooth)
