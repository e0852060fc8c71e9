# SPDX-License-Identifier: Apache-2.0
# Sourced by ./serl and by the shell that it starts, with $root set: which ROS 2, which folders, which environment.

# A native ROS 2 is sourced if a prefix that is no virtual environment has rclpy.
native_ros_is_sourced() {
  local prefix prefixes
  [ -n "${ROS_DISTRO:-}" ] || return 1
  IFS=: read -ra prefixes <<<"${AMENT_PREFIX_PATH:-}"
  for prefix in "${prefixes[@]}"; do
    [ ! -e "$prefix/share/ament_index/resource_index/packages/rclpy" ] || [ -e "$prefix/pyvenv.cfg" ] || return 0
  done
  return 1
}

# Sets ros (jazzy, kilted, or native-DISTRO), and the folders that belong to it.
choose_ros() {
  if native_ros_is_sourced; then
    ros=native-$ROS_DISTRO
    [ "${SERL_ROS_DISTRO:-$ROS_DISTRO}" = "$ROS_DISTRO" ] || die "a native ROS 2 $ROS_DISTRO is sourced, but" \
      "SERL_ROS_DISTRO=$SERL_ROS_DISTRO asks for wheels. Unset it, or use a terminal where no ROS 2 is sourced."
  else
    ros=${SERL_ROS_DISTRO:-jazzy}
    [[ $ros == @(jazzy|kilted) ]] || die "SERL_ROS_DISTRO=$ros: expected jazzy or kilted."
  fi
  set_folders
}

set_folders() {
  local suffix=-$ros
  [ "$ros" != jazzy ] || suffix=
  state=$root/.serl/$ros
  venv=$root/.venv$suffix
  build=$root/build$suffix
  install=$root/install$suffix
  requirements=$root/requirements/${ros%-*}.txt
}

# What colcon and Python need to see ROS 2. The wheels' own start-up hook would set most of it by starting Python twice.
export_underlay() {
  export VIRTUAL_ENV=$venv PATH="$venv/bin:$PATH"
  export COLCON_DEFAULTS_FILE=$state/colcon_defaults.yaml
  [[ $ros != native-* ]] || return 0
  local libraries
  printf -v libraries ':%s' "$venv"/lib/python3*/site-packages/ros_*.libs
  export LD_LIBRARY_PATH="$venv/lib$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
  export AMENT_PREFIX_PATH=$venv CMAKE_PREFIX_PATH=$venv
  export ROS_DISTRO=$ros ROS_VERSION=2 ROS_PYTHON_VERSION=3 SERL_ROS_DISTRO=$ros
}

export_environment() {
  set_folders
  export_underlay
  # colcon's scripts read variables that may be unset.
  local options=$-
  set +u
  . "$install/local_setup.bash"
  [[ $options != *u* ]] || set -u
  export SERL_WORKSPACE=$root
  # Our profile keeps to the loopback interface; LOCALHOST would put Jazzy's own transports in its place.
  if [[ $ros != native-* && -z ${ROS_AUTOMATIC_DISCOVERY_RANGE:-}${FASTDDS_DEFAULT_PROFILES_FILE:-} ]]; then
    export ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET FASTDDS_DEFAULT_PROFILES_FILE=$root/config/fastdds.xml
  fi
  export ROS_AUTOMATIC_DISCOVERY_RANGE=${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}
  export FASTDDS_DEFAULT_PROFILES_FILE=${FASTDDS_DEFAULT_PROFILES_FILE:-$root/config/fastdds.xml}
  # Fast DDS 2, which Jazzy has, reads only the older name.
  export FASTRTPS_DEFAULT_PROFILES_FILE=${FASTRTPS_DEFAULT_PROFILES_FILE:-$FASTDDS_DEFAULT_PROFILES_FILE}
}
