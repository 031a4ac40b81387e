"""Where the claims come from.

Of what was not checked against the printed text, the result is attributed and not a figure or an
equation's number. The lecture's sentences stand as its transcripts have them, without what is said
twice or in passing (…).
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

# ------------------------------------------------------------- what the lecture says, in its order

SLOPES = (
    "when you're training a very deep network your derivatives or your slopes can sometimes get "
    "either very, very big or very, very small, maybe even exponentially small"
)
POWERS = (
    "it grows like 1.5 to the number of layers … Now, conversely, if we replace this with 0.5 … "
    "the activation values will decrease exponentially"
)
A_LITTLE = (
    "if they're all just a little bit bigger than one or just a little bit bigger than the "
    "identity matrix, then with a very deep network the activations can explode. And if W is just "
    "a little bit less than identity … the activations will decrease exponentially"
)
SIMILAR_ARGUMENT = (
    "a similar argument can be used to show that the derivatives or the gradients … will also "
    "increase exponentially or decrease exponentially as a function of the number of layers"
)
DIFFICULT = (
    "if your activations or gradients increase or decrease exponentially as a function of L, then "
    "these values could get really big or really small. And this makes training difficult"
)
TINY_STEPS = (
    "especially if your gradients are exponentially smaller than L, then gradient descent will "
    "take tiny little steps"
)
LONG_TIME = "It will take a long time for gradient descent to learn anything"
PARTIAL_SOLUTION = (
    "there's a partial solution that doesn't completely solve this problem but it helps a lot "
    "which is careful choice of how you initialize the weights"
)
SIMILAR_SCALE = (
    "set the variance of W to be equal to 1 over n … if the input features of activations are "
    "roughly mean 0 and … variance 1 then this would cause z to also take on a similar scale"
)
TWO_OVER_N = (
    "if you're using a ReLu activation function that, rather than 1 over n it turns out that … 2 "
    "over n works a little bit better"
)
TANH_ONE = (
    "if you are using a TanH activation function then … instead of using the constant 2, it's "
    "better use the constant 1"
)
REASONABLY_DEEP = (
    "so you can train a reasonably deep network without the weights or the gradients exploding or "
    "vanishing too much"
)
MORE_QUICKLY = (
    "this is another trick that will help you make your neural networks trained much more quickly"
)
SYMMETRIC = (
    "no matter how long you train your neural network, both hidden units are still computing "
    "exactly the same function"
)
TOO_LARGE = (
    "if w is too large, you're more likely to end up even at the very start of training, with "
    "very large values of z. Which causes your tanh or your sigmoid activation function to be "
    "saturated, thus slowing down learning"
)
LESS_OF_AN_ISSUE = (
    "If you don't have any sigmoid or tanh activation functions throughout your neural network, "
    "this is less of an issue"
)
WORK_OKAY = (
    "a relatively shallow neural network, without too many hidden layers. Set it to 0.01 will "
    "probably work okay"
)
OTHER_CONSTANT = (
    "when you're training a very very deep neural network, then you might want to pick a "
    "different constant than 0.01"
)
