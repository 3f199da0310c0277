"""A schedule of your own

woofbench run --dataset digits --import schedule.py --sched triangle
"""
from fastai.callback.schedule import ParamScheduler, SchedLin, combine_scheds
from woofbench import scheds


# A schedule gets a fastai Learner, the number of epochs and the recipe, and trains.
@scheds.register('triangle')
def triangle(learn, epochs, r):
    "From a tenth of the rate up to it in a fifth of the steps, then down to a thousandth, along straight lines"
    rate = combine_scheds([.2, .8], [SchedLin(r.lr / 10, r.lr), SchedLin(r.lr, r.lr / 1000)])
    learn.fit(epochs, r.lr, wd=r.wd, cbs=ParamScheduler(dict(lr=rate)))
