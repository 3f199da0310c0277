"""An optimiser of your own, with a parameter

woofbench run --dataset digits --import optimiser.py --opt sign --opt-shrink 0.05
"""
from fastai.optimizer import Optimizer, average_grad, weight_decay
from woofbench import opts, Param


# A parameter has a default, a sentence for the help, and the smallest and the largest value.
# It becomes a field of the recipe and a flag: `shrink` of an opt is `opt_shrink`, and `--opt-shrink`.
# A recipe with this optimiser refuses the fields that it makes no use of.
@opts.register('sign', unused=('sqr_mom', 'eps', 'beta'),
               params=dict(shrink=Param(.1, 'Factor of the learning rate', 1e-4, 1)))
def sign(r, *, shrink):
    "Steps by the sign of the mean gradient, https://arxiv.org/abs/1802.04434"

    def step(p, lr, grad_avg, **kw):
        p.data.add_(grad_avg.sign(), alpha=-lr * shrink)

    # `r` is the recipe. fastai's loop sets the learning rate and the weight decay at every step.
    def make(params, lr, **kw):
        return Optimizer(params, [weight_decay, average_grad, step], lr=lr, mom=r.mom, wd=r.wd)

    return make
