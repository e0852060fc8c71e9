# SPDX-License-Identifier: Apache-2.0
"""Recording, training and checking of reward classifiers."""
