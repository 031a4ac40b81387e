"""Where the claims come from.

Of what was not checked against the printed text, the result is attributed and not a figure or an
equation's number. What a source says is told in our own words.
"""

NG = "Ng, Deep Learning Specialization, course 2, week 1"
NG_GRADIENTS = f"{NG}, “Vanishing / exploding gradients”"
NG_WEIGHTS = f"{NG}, “Weight initialization for deep networks”"
NG_SYMMETRY = "Ng, Deep Learning Specialization, course 1, week 3, “Random initialization”"
GLOROT_SIGMOID = "Glorot and Bengio 2010, section 3.1"
GLOROT = "Glorot and Bengio 2010, section 4.2, equation 14, and figures 7 and 8"
HE = "He et al. 2015, arXiv:1502.01852, section 2.2"
HE_DEEP = "He et al. 2015, arXiv:1502.01852, figure 3 (convolutional networks on ImageNet)"
SCHOENHOLZ = "Schoenholz et al. 2017, arXiv:1611.01232, section on back-propagation"
ROBERTS = (
    "Roberts, Yaida and Hanin 2022, arXiv:2106.10165, chapter 5 (lengths of critical tanh "
    "networks fall as 1/(2l)), with the factor χ₁ a layer of Schoenholz et al. 2017"
)
HANIN_ROLNICK = "Hanin and Rolnick 2018, arXiv:1803.01719"
HANIN_NICA = "Hanin and Nica 2020, arXiv:1812.05994"
KOGLER = "Kogler et al. 2026, arXiv:2602.10949"
SUSSILLO = "Sussillo and Abbott 2014, arXiv:1412.6558"
EULER = (
    "Euler's theorem on homogeneous functions; its consequence for training: Du, Hu and Lee "
    "2018, arXiv:1806.00900"
)
GOODFELLOW = "Goodfellow, Bengio and Courville 2016, Deep Learning, section 8.4"

# --------------------------------------------- what the lecture says, in its order and our words

SLOPES = (
    "The derivatives of a very deep network can become very large or very small, and small "
    "exponentially."
)
POWERS = (
    "Weights of 1.5 times the identity let the output grow like 1.5 to the power of the number "
    "of layers, and with 0.5 the activations decay exponentially."
)
A_LITTLE = (
    "A little above the identity is enough for the activations of a very deep network to "
    "explode, and a little below it for them to decay exponentially."
)
SIMILAR_ARGUMENT = (
    "The same reasoning applies to gradients: they grow or decay exponentially in the number of "
    "layers."
)
DIFFICULT = "Activations or gradients that change exponentially with depth make training difficult."
TINY_STEPS = "Where gradients are exponentially small, gradient descent moves by tiny amounts."
LONG_TIME = "Descent then needs very long before it has learned anything."
PARTIAL_SOLUTION = (
    "Initial weights that are chosen with care do not remove the problem, and help a great deal."
)
SIMILAR_SCALE = (
    "From inputs of mean 0 and variance 1, weights of variance 1/n make pre-activations of a "
    "similar scale."
)
TWO_OVER_N = "For ReLU, a variance of 2/n does somewhat better than 1/n."
TANH_ONE = "For tanh, the constant 1 serves better than 2."
REASONABLY_DEEP = (
    "Such weights allow fairly deep networks to be trained, because neither weights nor "
    "gradients explode or vanish too much."
)
MORE_QUICKLY = "They also let networks train considerably faster."
SYMMETRIC = (
    "Units that begin alike go on to compute one and the same function, however long the "
    "training lasts."
)
TOO_LARGE = (
    "Weights that are too large saturate tanh or sigmoid units from the very beginning, which "
    "slows learning down."
)
LESS_OF_AN_ISSUE = "Without tanh or sigmoid units anywhere in the network this matters less."
WORK_OKAY = "In a network with few hidden layers, a size of 0.01 will mostly do."
OTHER_CONSTANT = "For a very deep network, a constant other than 0.01 may be the better choice."
