# SPDX-License-Identifier: Apache-2.0
# Sourced by ./serl when something has to be set up: system packages, virtual environment, build. Each part writes its
# stamp last, so what was interrupted is done again.

setup_log=$root/.serl/setup.log

set_up_under_lock() {
  local machine
  machine=$(uname -m 2>/dev/null) || machine=$HOSTTYPE
  [[ $ros == native-* || $machine == x86_64 ]] || die "ROS 2 comes from pip for x86-64 only, and this machine is" \
    "$machine. Install ROS 2 jazzy or kilted, source it (. /opt/ros/jazzy/setup.bash), then run ./serl again."
  [[ $root != *[[:space:]:]* ]] || die "the path '$root' has a space or a colon, which ROS 2 builds cannot take. Move it."
  can_write "$state" || die "$state cannot be written to, and the workspace has to be set up. Make it writable."
  exec 9>"$root/.serl/lock"
  if ! flock -n 9; then
    say "another ./serl is setting up; waiting for it"
    flock 9
  fi
  trap 'echo >&2; say "set-up interrupted; the next ./serl does it again"; exit 130' INT TERM HUP
  : >"$setup_log"
  if ! venv_is_ready; then
    say "setting up in $root, some minutes the first time (log: .serl/setup.log)"
    check_system
    make_venv
  fi
  build_is_ready || make_build
  note_small_buffers
  trap - INT TERM HUP
  exec 9>&-
}

# step TEXT COMMAND...: runs the command with its output in the log only.
step() {
  local text=$1 start=$SECONDS
  shift
  printf 'serl: %s ... ' "$text" >&2
  printf '\n### %s: %s\n' "$text" "$*" >>"$setup_log"
  if ! "$@" >>"$setup_log" 2>&1; then
    printf 'failed\n' >&2
    tail -n 20 "$setup_log" | sed 's/^/  | /' >&2
    die "failed: $text. The whole output is in $setup_log; run ./serl again when the cause is gone."
  fi
  printf 'done in %d s\n' $((SECONDS - start)) >&2
}

# --- system packages -------------------------------------------------------------------------------------------------

# Sets python to a usable interpreter: 3.11 or 3.12, and in native mode the one that can import rclpy.
find_python() {
  local candidate probe='import os, sys; assert (3, 11) <= sys.version_info[:2] <= (3, 12)'
  [[ $ros != native-* ]] || probe+='; import rclpy'
  for candidate in ${SERL_PYTHON:-python3 python3.11 python3.12 ~/.pyenv/versions/3.1[12].*/bin/python3}; do
    if python=$("$candidate" -c "$probe; print(os.path.realpath(sys.executable))" 2>>"$setup_log"); then return 0; fi
  done
  python=
  return 1
}

cmake_is_recent() {
  local version
  version=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*//p')
  [ "$(printf '%s\n' 3.20 "$version" | sort -V | head -n 1)" = 3.20 ]
}

# Sets missing to the Debian packages that are not there.
find_missing() {
  local tool
  missing=()
  for tool in gcc g++ make; do command -v "$tool" >/dev/null || missing+=("$tool"); done
  cmake_is_recent || missing+=(cmake)
  if [ -z "$python" ]; then
    missing+=(python3 python3-venv python3-dev)
  else
    local name
    name=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("$name-venv")
    "$python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
      missing+=("$name-dev")
  fi
  local libraries
  libraries=$(PATH=$PATH:/sbin ldconfig -p)
  [[ $libraries == *libEGL.so.1* ]] || missing+=(libegl1)
  [[ $libraries == *libGL.so.1* ]] || missing+=(libgl1)
  # MuJoCo draws without a screen through EGL, on any driver: Mesa's or the graphics card's.
  compgen -G '/usr/lib/*/dri/*_dri.so' >/dev/null || compgen -G '/usr/share/glvnd/egl_vendor.d/10_nvidia.json' \
    >/dev/null || missing+=(libgl1-mesa-dri)
}

need_python() {
  local what='Python 3.11 or 3.12'
  [[ $ros != native-* ]] || what+=" that can import the sourced ROS 2's rclpy (PYTHONPATH=${PYTHONPATH:-}; see $setup_log)"
  die "needs $what; ${SERL_PYTHON:-python3} is $("${SERL_PYTHON:-python3}" --version 2>/dev/null || echo no Python)." \
    "Install one with its -venv and -dev packages, or name one: SERL_PYTHON=/path/to/python3.11 ./serl"
}

check_system() {
  # Where there is no Python at all, the system's own may do; where there is another one, nothing is installed.
  find_python || [ -z "${SERL_PYTHON:-}$(command -v python3)" ] || need_python
  find_missing
  if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || die "needs what Debian calls ${missing[*]} (cmake 3.20 or later, Python 3.11 or" \
      "3.12). Install that with this system's package manager, then run ./serl again."
    [ "$(id -u)" = 0 ] || die "system packages are missing. Install them, then run ./serl again:
    sudo apt-get update && sudo apt-get install -y ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    step "package lists" apt-get update
    step "system packages ${missing[*]}" apt-get install -y --no-install-recommends "${missing[@]}"
    find_python || true
    find_missing
  fi
  [ -n "$python" ] || need_python
  [ ${#missing[@]} -eq 0 ] || die "still missing after the installation: ${missing[*]}. See $setup_log."
}

# --- virtual environment ---------------------------------------------------------------------------------------------

# Into $venv what $requirements say.
install_packages() {
  step "Python packages of ${requirements#"$root"/}" \
    "$venv/bin/python" -I "$root/scripts/install_packages.py" "$requirements"
  step "check of the packages" "$venv/bin/python" -I "$root/scripts/check_venv.py" "$requirements"
}

# A sourced ROS 2 is found through PYTHONPATH. Only RoboStack has it among conda's own packages, which come after ours.
show_native_ros() {
  local packages
  if ! "$venv/bin/python" -c 'import rclpy' >>"$setup_log" 2>&1; then
    packages=$("$python" -c 'import os, rclpy; print(os.path.dirname(os.path.dirname(rclpy.__file__)))')
    echo "$packages" >"$(echo "$venv"/lib/python3*/site-packages)/native_ros.pth"
  fi
  step "check of ROS 2 $ROS_DISTRO" "$venv/bin/python" -c 'import rclpy, rosidl_adapter, std_msgs.msg'
}

make_venv() {
  rm -rf "$state" "$venv" "$build" "$install"
  mkdir -p "$state"
  step "virtual environment ${venv##*/} with $("$python" --version)" "$python" -m venv "$venv"
  install_packages
  [[ $ros != native-* ]] || show_native_ros
  bring_extras_back
  venv_id >"$state/venv"
}

# --- optional packages. Two lists of names of requirements/extras, one a line: $state-extras, of those that were set up,
# --- which outlasts the virtual environment; and $state/extras, of those that are in this one.

known_extras() {
  (cd "$root/requirements/extras" && { ls ./*.txt; ! ls ./torch-*.txt || echo torch; } 2>/dev/null |
    sed 's,^\./,,; s/\.txt$//' | sort -u | xargs)
}

extras_there() { [ ! -f "$state/extras" ] || xargs <"$state/extras"; }

# without_extra FILE NAME: the names of a list without this one; of PyTorch's two builds there is one.
without_extra() {
  local other=$2
  [[ $other != torch-* ]] || other='torch-.*'
  [ ! -f "$1" ] || grep -vx -- "$other" "$1" || true
}

# PyTorch is the first one, as others stand on it.
remember_extra() {
  local file rest
  for file in "$state-extras" "$state/extras"; do
    rest=$(without_extra "$file" "$1")
    if [[ $1 == torch-* ]]; then rest=$1${rest:+$'\n'}$rest; else rest=$rest${rest:+$'\n'}$1; fi
    printf '%s\n' "$rest" >"$file.new" && mv "$file.new" "$file"
  done
}

# What was set up and is not in $venv, which was made anew. One that fails holds up nothing else.
bring_extras_back() {
  local name rest extras=()
  [ ! -f "$state-extras" ] || mapfile -t extras < <(grep -vxFf <(cat "$state/extras" 2>/dev/null) "$state-extras")
  [ ${#extras[@]} -gt 0 ] || return 0
  say "brings back the optional packages that were set up here: ${extras[*]}"
  for name in "${extras[@]}"; do
    if [ ! -f "$root/requirements/extras/$name.txt" ]; then
      rest=$(without_extra "$state-extras" "$name")
      printf '%s' "$rest${rest:+$'\n'}" >"$state-extras"
      say "note: $name is no optional package of this version, and forgotten; there are: $(known_extras)."
    else
      (set_up_extra "$name") || say "note: $name is not there now; everything else is. ./serl setup tries it again."
    fi
  done
}

# What was set up and is missing still, after ./serl setup without names.
set_up_missing_extras() {
  exec 9>"$root/.serl/lock"
  flock 9
  bring_extras_back
  exec 9>&-
}

say_what_is_set_up() {
  local extras
  extras=$(extras_there)
  say "the workspace is set up ($ros, ${venv#"$root"/}, ${install#"$root"/};" \
    "${extras:+optional packages: }${extras:-no optional packages})"
}

setup_help() {
  sed -n '/^#   \.\/serl setup/,/^#   \.\/serl shell/{/^#   \.\/serl shell/!s/^# \{0,1\}//p}' "$root/serl"
  local extras
  extras=$(extras_there)
  printf '\nEXTRA: %s\nset up here: %s\nSee docs/optional_packages.md.\n' "$(known_extras)" "${extras:-none of them}"
}

# set_up_extras NAME...: into $venv what requirements/extras/NAME.txt say, and what they stand on. Where one name is
# wrong nothing is installed.
set_up_extras() {
  local name requirements
  for name in "$@"; do
    [[ $name != */* && ($name == torch || -f $root/requirements/extras/$name.txt) ]] ||
      die "setup $name: expected optional packages that there are: $(known_extras)."
  done
  exec 9>"$root/.serl/lock"
  flock 9
  : >"$setup_log"
  for name in "$@"; do
    if grep -qs '^# Stands on: torch$' "$root/requirements/extras/$name.in"; then
      if find_torch; then remember_extra "$torch"; else set_up_torch; fi
    fi
    if [ "$name" = torch ]; then set_up_torch; else set_up_extra "$name"; fi
  done
  exec 9>&-
}

set_up_extra() {
  local requirements=$root/requirements/extras/$1.txt
  install_packages
  remember_extra "$1"
}

# --- PyTorch: one version, two builds ---

# Sets torch to the build that is in $venv, complete.
find_torch() {
  for torch in torch-cuda torch-cpu; do
    if "$venv/bin/python" -I "$root/scripts/check_venv.py" "$root/requirements/extras/$torch.txt" >>"$setup_log" 2>&1; then
      return 0
    fi
  done
  return 1
}

nvidia_is_there() { nvidia-smi -L >>"$setup_log" 2>&1; }

# For NVIDIA's cards where there is one; else the small build for CPUs, where pip knows of it.
set_up_torch() {
  local torch
  if nvidia_is_there; then
    say "PyTorch with CUDA, for the card that is here; ./serl setup torch-cpu brings the small build without it"
    torch=torch-cuda
  elif find_torch; then
    say "PyTorch is there already: $torch"
  elif "$venv/bin/python" -I "$root/scripts/install_packages.py" --look-for torch \
    "$root/requirements/extras/torch-cpu.txt" >>"$setup_log" 2>&1; then
    say "PyTorch in its build for CPUs, as no driver of NVIDIA's is here; ./serl setup torch-cuda brings the other one"
    torch=torch-cpu
  else
    say "note: no driver of NVIDIA's is here, but pip finds no build of PyTorch for CPUs: so the one with CUDA comes, of" \
      "some GB. Interrupt this and set PIP_EXTRA_INDEX_URL to PyTorch's index of builds for CPUs to have the small one."
    torch=torch-cuda
  fi
  set_up_extra $torch
}

# set_up_gym NAME: a virtual environment of its own for what requirements/gym/NAME.txt says, in which that comes first
# and everything that is in $venv behind it: so a world may have another MuJoCo than ours, and still speak ROS.
set_up_gym() {
  local requirements=$root/requirements/gym/$1.txt known base=$venv
  if [[ $1 == */* || ! -f $requirements ]]; then
    known=$(cd "$root/requirements/gym" && ls ./*.txt | sed 's,^\./,,; s/\.txt$//' | xargs)
    die "setup gym $1: expected a world that there is: $known. For one of your own see docs/other_worlds.md."
  fi
  local venv=$base-gym-$1 stamp=$state/gym-$1
  exec 9>"$root/.serl/lock"
  flock 9
  : >"$setup_log"
  if [ ! -x "$venv/bin/python" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$(gym_id)" ]; then
    rm -rf "$venv" "$stamp"
    step "virtual environment ${venv##*/}" "$base/bin/python" -m venv "$venv"
    install_packages
    echo "import site; site.addsitedir('$(echo "$base"/lib/python3*/site-packages)')" \
      >"$(echo "$venv"/lib/python3*/site-packages)/behind.pth"
    step "check of ROS 2 in it" "$venv/bin/python" -c 'import rclpy, std_msgs.msg'
    gym_id >"$stamp"
  fi
  exec 9>&-
  say "the world $1 is set up (${venv#"$root"/})"
}

# What the virtual environment of a world was made from.
gym_id() { venv_id; echo "$venv"; }

# --- build -----------------------------------------------------------------------------------------------------------

underlay_has() {
  local prefix prefixes
  IFS=: read -ra prefixes <<<"$AMENT_PREFIX_PATH"
  for prefix in "${prefixes[@]}"; do
    [[ $prefix == "$install"* ]] || [ ! -e "$prefix/share/$1/package.xml" ] || return 0
  done
  return 1
}

# colcon's settings for this machine, for us and for a person's own `colcon build` in a ./serl shell.
write_colcon_defaults() {
  local package base_paths="\"$root/src\"" cmake_args=
  for package in "$root"/src/compat/*/; do
    package=${package%/}
    underlay_has "${package##*/}" || base_paths+=", \"$package\""
  done
  [[ $ros == native-* ]] || cmake_args="\"-DCMAKE_PROJECT_INCLUDE=$root/cmake/ros_wheels.cmake\""
  cat >"$COLCON_DEFAULTS_FILE" <<YAML
# Written by ./serl.
list: {base-paths: [$base_paths]}
build: {base-paths: [$base_paths], build-base: "$build", install-base: "$install", cmake-args: [$cmake_args]}
test: {base-paths: [$base_paths], build-base: "$build", install-base: "$install"}
test-result: {test-result-base: "$build"}
YAML
}

# Prints the packages to build again: those of the lines that are not as they were, or none if that is not enough.
changed_packages() {
  local path
  [ -f "$state/build" ] || return 0
  diff "$state/build" <(build_id) | grep '^[<>]' | while read -r _ path; do
    path=${path##* }
    case $path in
      src/*/*) path=${path#src/} path=${path#compat/}; echo "${path%%/*}" ;;
      *) echo all ;;
    esac
  done | sort -u
}

run_colcon() (
  cd "$root"
  unset PYTHONDONTWRITEBYTECODE COLCON_PREFIX_PATH
  [[ $ros == native-* ]] || unset PYTHONPATH
  export_underlay
  write_colcon_defaults
  colcon --log-base log build --symlink-install --event-handlers console_cohesion+ "$@"
)

make_build() {
  local packages id
  mapfile -t packages < <(changed_packages)
  [[ " ${packages[*]} " != *" all "* ]] || packages=()
  id=$(build_id)
  # While it builds there is no stamp: after an interruption everything is looked at again.
  rm -f "$state/build"
  # colcon links new files into the installation, but leaves the links to those that were renamed or removed.
  [ ! -d "$install" ] || find "$install" -xtype l -delete
  # The same goes for programs that a setup.py no longer names.
  local package
  for package in "${packages[@]-}"; do rm -rf "$install"/${package:-*}/lib/${package:-serl_*}; done
  if [ ${#packages[@]} -eq 0 ]; then
    step "build with colcon" run_colcon
  else
    step "build of ${packages[*]}" run_colcon --packages-select "${packages[@]}"
  fi
  printf '%s\n' "$id" >"$state/build"
}

# --- notes -----------------------------------------------------------------------------------------------------------

note_small_buffers() {
  local size=4194304
  [ -r /proc/sys/net/core/rmem_max ] || return 0
  [ "$(</proc/sys/net/core/rmem_max)" -ge $size ] || say "note: this kernel allows receive buffers of" \
    "$(</proc/sys/net/core/rmem_max) bytes; camera images travel faster after: sudo sysctl -w net.core.rmem_max=$size"
}
