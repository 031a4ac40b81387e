"""Where the claims come from.

Of what was not checked against the printed text, the result is attributed and not a figure or an
equation's number.
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
HANIN_NICA = "Hanin and Nica 2020, arXiv:1812.05994"
KOGLER = "Kogler et al. 2026, arXiv:2602.10949"
SUSSILLO = "Sussillo and Abbott 2014, arXiv:1412.6558"
EULER = (
    "Euler's theorem on homogeneous functions; its consequence for training: Du, Hu and Lee "
    "2018, arXiv:1806.00900"
)
GOODFELLOW = "Goodfellow, Bengio and Courville 2016, Deep Learning, section 8.4"
