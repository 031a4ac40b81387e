"""Theory of signal propagation: what the measured statistics should be.

Pure functions of numbers; NumPy and SciPy only. By module:

* `products`: scaled identities, random matrix products; `gradprop.components.gains` has exact drift
  and spread of log-lengths;
* `length`, `correlation`: the maps of mean-field theory, ``chi_1``, depth scales;
* `mean_field`: phases and the edge of chaos;
* `mean_shift`: kernels and biases whose mean is not zero;
* `dropout`: what dropout does to both maps;
* `formats`: where magnitudes leave the range of a number format;
* `curvature`: how curves of inputs are stretched and bent;
* `variance`: forward and backward variance, layer by layer, for any width profile;
* `finite_width`: fluctuations, log-normal laws and reference bands, dead networks;
* `jacobian`: singular values of the input-output Jacobian;
* `deep_linear`: exact learning curves of deep linear networks;
* `closed_forms`: ReLU angles, critical tanh, batch normalization, SELU,
  residual networks;
* `gaussian`: the quadrature behind all of these.

Conventions: ``sigma_w2`` is the weight variance times the fan-in, ``sigma_b2`` the bias variance,
``q`` a mean square of pre-activations, ``delta`` the derivative of a single example's loss with
respect to pre-activations. Layers count from 1. Growth is that of mean squares unless a docstring
says otherwise.
"""

from gradprop.components.gains import (
    log_growth_mean,
    log_growth_variance,
    sussillo_abbott_gain,
    unbiased_gain,
)
from gradprop.theory.closed_forms import (
    batch_norm_growth,
    critical_tanh_delta_ratio,
    critical_tanh_length,
    linear_batch_norm_growth,
    moment_map,
    moment_map_jacobian,
    rectified_residual_length,
    relu_correlation_asymptote,
    relu_correlation_map,
    relu_gradient_correlation,
)
from gradprop.theory.correlation import (
    correlation_depth_scale,
    correlation_fixed_point,
    correlation_map,
    correlation_map_slope,
    correlation_trajectory,
    covariance_map,
)
from gradprop.theory.curvature import CurveTrajectory, curvature_fixed_point, curve_trajectory
from gradprop.theory.deep_linear import (
    half_time,
    infinite_depth_learning_time,
    learning_time,
    mode_strength,
)
from gradprop.theory.dropout import DropoutState, dropout_correlation_map, dropout_state
from gradprop.theory.finite_width import (
    LogNormalLaw,
    critical_tanh_fluctuation,
    dead_probability,
    gradient_fluctuation,
    gradient_law,
    length_fluctuation,
    length_law,
    reciprocal_width_sum,
)
from gradprop.theory.free_probability import (
    jacobian_largest_singular_value,
    jacobian_singular_density,
)
from gradprop.theory.gaussian import expectation, pair_expectation, shifted_expectation
from gradprop.theory.jacobian import (
    fuss_catalan_density,
    fuss_catalan_moment,
    has_dynamical_isometry,
    jacobian_mean_square,
    jacobian_relative_variance,
    jacobian_variance,
    layer_mean_singular_value,
    linear_gaussian_edge,
    linear_gaussian_relative_variance,
    linear_gaussian_singular_density,
    linear_orthogonal_singular_value,
    mean_singular_value,
    slope_moment,
)
from gradprop.theory.length import (
    chi_1,
    chi_2,
    length_depth_scale,
    length_fixed_point,
    length_map,
    length_map_slope,
    length_trajectory,
)
from gradprop.theory.mean_field import (
    CriticalPoint,
    MeanField,
    critical_line,
    critical_point,
    mean_field_state,
)
from gradprop.theory.mean_shift import ShiftedProfile, shifted_profile
from gradprop.theory.products import (
    expected_square_norm,
    lyapunov_spectrum,
    mean_typical_gap,
    scaled_identity_delta,
    scaled_identity_output,
    scaled_identity_weight_gradient,
)
from gradprop.theory.variance import SignalProfile, sigma_w2_of_scaling, signal_profile

__all__ = [
    "CriticalPoint",
    "CurveTrajectory",
    "DropoutState",
    "LogNormalLaw",
    "MeanField",
    "ShiftedProfile",
    "SignalProfile",
    "batch_norm_growth",
    "chi_1",
    "chi_2",
    "correlation_depth_scale",
    "correlation_fixed_point",
    "correlation_map",
    "correlation_map_slope",
    "correlation_trajectory",
    "covariance_map",
    "critical_line",
    "critical_point",
    "critical_tanh_delta_ratio",
    "critical_tanh_fluctuation",
    "critical_tanh_length",
    "curvature_fixed_point",
    "curve_trajectory",
    "dead_probability",
    "dropout_correlation_map",
    "dropout_state",
    "expectation",
    "expected_square_norm",
    "fuss_catalan_density",
    "fuss_catalan_moment",
    "gradient_fluctuation",
    "gradient_law",
    "half_time",
    "has_dynamical_isometry",
    "infinite_depth_learning_time",
    "jacobian_largest_singular_value",
    "jacobian_mean_square",
    "jacobian_relative_variance",
    "jacobian_singular_density",
    "jacobian_variance",
    "layer_mean_singular_value",
    "learning_time",
    "length_depth_scale",
    "length_fixed_point",
    "length_fluctuation",
    "length_law",
    "length_map",
    "length_map_slope",
    "length_trajectory",
    "linear_batch_norm_growth",
    "linear_gaussian_edge",
    "linear_gaussian_relative_variance",
    "linear_gaussian_singular_density",
    "linear_orthogonal_singular_value",
    "log_growth_mean",
    "log_growth_variance",
    "lyapunov_spectrum",
    "mean_field_state",
    "mean_singular_value",
    "mean_typical_gap",
    "mode_strength",
    "moment_map",
    "moment_map_jacobian",
    "pair_expectation",
    "reciprocal_width_sum",
    "rectified_residual_length",
    "relu_correlation_asymptote",
    "relu_correlation_map",
    "relu_gradient_correlation",
    "scaled_identity_delta",
    "scaled_identity_output",
    "scaled_identity_weight_gradient",
    "shifted_expectation",
    "shifted_profile",
    "sigma_w2_of_scaling",
    "signal_profile",
    "slope_moment",
    "sussillo_abbott_gain",
    "unbiased_gain",
]
