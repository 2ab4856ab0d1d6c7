# Everything runs in .venv, with ROS from wheels: no ROS installation is needed, and one that is
# sourced is left out of it.

PYTHON ?= python3
VENV := $(CURDIR)/.venv
SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv workspace lint test jazzy demo bundle fuzz clean

ifdef ROS_DISTRO
unexport ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION RMW_IMPLEMENTATION
unexport PYTHONPATH LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH
endif
# Set by another environment's ROS wheels, it would keep ours from finding their libraries.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport PYTHONHOME

ENV := export VIRTUAL_ENV="$(VENV)" PATH="$(VENV)/bin:$$PATH" \
	AMENT_PREFIX_PATH="$(VENV)" CMAKE_PREFIX_PATH="$(VENV)"
SOURCED := $(ENV); source ros2_ws/install/local_setup.bash

VENV_DONE := .venv/.done
WORKSPACE_DONE := ros2_ws/install/.done
WORKSPACE_FILES := $(shell find ros2_ws/src -type f -not -path '*/__pycache__/*' -not -path '*/.*') \
	$(wildcard launch/*.launch.py)
PACKAGES := reptile_agent (ros.ament_python)\nreptile_agent_msgs (ros.ament_cmake)\nreptile_agent_mujoco (ros.ament_python)\n

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 18

venv: $(VENV_DONE) ## the Python environment .venv, with the library in it (editable)

$(VENV_DONE): pyproject.toml constraints.txt
	@tools/missing_packages.sh $(PYTHON) > /dev/null || \
		{ echo "install the above, for example by apt-get install, then call make again"; exit 1; }
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv: torch, mujoco, ROS and the rest; some minutes the first time"
	@.venv/bin/python -m pip install -q -U pip -c constraints.txt setuptools wheel
	@.venv/bin/python -m pip install -q --no-build-isolation -c constraints.txt -e '.[train,ros,dev]'
	@touch $@

workspace: $(WORKSPACE_DONE) ## the ROS packages of ros2_ws, built

$(WORKSPACE_DONE): $(VENV_DONE) $(WORKSPACE_FILES) tools/repair_ros_wheels.py
	@.venv/bin/python tools/repair_ros_wheels.py > /dev/null
	@$(ENV); cd ros2_ws; \
	found=$$(colcon --log-base log list --base-paths src | awk '{print $$1, $$3}' | LC_ALL=C sort); \
	test "$$found" = "$$(printf '$(PACKAGES)')" || { \
		printf 'colcon takes the packages of ros2_ws/src for\n%s\nbut they are\n$(PACKAGES)' "$$found"; \
		echo 'mend the package.xml that it misreads (a malformed e-mail address is enough)'; \
		exit 1; }
	@echo "building ros2_ws; about half a minute the first time"
	@$(ENV); cd ros2_ws; mkdir -p log; \
	colcon --log-base log build --base-paths src --event-handlers console_direct+ \
		--cmake-args -DBUILD_TESTING=OFF -DPython3_EXECUTABLE="$(VENV)/bin/python" \
		> log/make.txt 2>&1 || { cat log/make.txt; exit 1; }
	@touch $@

lint: venv ## style, types, and which way imports point
	@$(ENV); ruff check .
	@$(ENV); ruff format --check .
	@$(ENV); pyright
	@$(ENV); lint-imports
	@# As `colcon test` does, which runs tests/ros behind them.
	@$(ENV); for package in reptile_agent reptile_agent_mujoco; do \
		(cd ros2_ws/src/$$package && python -m pytest -q test); done

test: venv workspace lint ## all of the above, then the tests
	@$(SOURCED); pytest -n 2 --dist loadgroup -rs -m 'not ros'
	@# One at a time: robots in real time, on a machine that has two cores for them. What fails is
	@# tried once more, and said (R), since a machine that is busy for a moment fails them too.
	@$(SOURCED); pytest -rsR -m ros --reruns 1

# Jazzy's wheels have the names of Kilted's: they are in an environment of their own, which sees
# what is not ROS's in .venv. Only after the installation: pip must not take Kilted's for its own.
JAZZY := $(CURDIR)/.venv-jazzy
JAZZY_DONE := .venv-jazzy/.done
JAZZY_ENV := export VIRTUAL_ENV="$(JAZZY)" PATH="$(JAZZY)/bin:$$PATH" \
	AMENT_PREFIX_PATH="$(JAZZY)" CMAKE_PREFIX_PATH="$(JAZZY)"
JAZZY_SEES := import pathlib, sysconfig; lib = sysconfig.get_path("purelib"); \
	pathlib.Path(lib, "zz_beside.pth").write_text( \
	lib.replace("/.venv-jazzy/", "/.venv/") + "\n$(CURDIR)\n")
# All of tests/ros passes, and takes as long as it does with Kilted.
JAZZY_TESTS ?= tests/ros/test_joints.py tests/ros/test_nodes.py

$(JAZZY_DONE): $(VENV_DONE) constraints-jazzy.txt
	@rm -rf .venv-jazzy; $(PYTHON) -m venv .venv-jazzy
	@echo "installing ROS Jazzy into .venv-jazzy"
	@sed -n '/^ros-/!p' constraints.txt > .venv-jazzy/constraints.txt
	@.venv-jazzy/bin/python -m pip install -q -c .venv-jazzy/constraints.txt -c constraints-jazzy.txt \
		'setuptools<80' wheel numpy colcon-common-extensions \
		$$(grep -o '^ros-jazzy-[a-z-]*' constraints-jazzy.txt)
	@.venv-jazzy/bin/python -c '$(JAZZY_SEES)'
	@.venv-jazzy/bin/python tools/repair_ros_wheels.py > /dev/null
	@touch $@

jazzy: workspace $(JAZZY_DONE) ## the ROS packages built with Jazzy's wheels too, and tests of them
	@echo "building ros2_ws for Jazzy"
	@$(JAZZY_ENV); cd ros2_ws; mkdir -p log; \
	colcon --log-base log/jazzy build --base-paths src --event-handlers console_direct+ \
		--build-base build/jazzy --install-base install/jazzy \
		--cmake-args -DBUILD_TESTING=OFF -DPython3_EXECUTABLE="$(JAZZY)/bin/python" \
		> log/jazzy.txt 2>&1 || { cat log/jazzy.txt; exit 1; }
	@$(JAZZY_ENV); source ros2_ws/install/jazzy/local_setup.bash; \
	python -c 'import rclpy, sys; sys.exit("/.venv-jazzy/" not in rclpy.__file__)'; \
	python -m pytest -rsR -m ros --reruns 1 $(JAZZY_TESTS)

demo: venv workspace ## a simulated robot breaks and adapts, under ROS
	@$(SOURCED); reptile-agent demo

bundle: venv ## train the bundle that the ROS package ships anew
	@$(ENV); rm -rf runs/arm; reptile-agent train arm --out runs/arm
	@$(ENV); reptile-agent export runs/arm --out ros2_ws/src/reptile_agent/bundle/arm
	@$(ENV); reptile-agent verify ros2_ws/src/reptile_agent/bundle/arm

FUZZ_SECONDS ?= 60

fuzz: venv ## malformed bundles by atheris, FUZZ_SECONDS (60) for each of three targets
	@.venv/bin/python -m pip install -q --no-build-isolation -c constraints.txt -e '.[fuzz]'
	@$(ENV); for target in manifest rules bundle; do \
		python -m tools.fuzz_bundle $$target --seconds $(FUZZ_SECONDS); done

clean: ## away with what was built (.venv stays)
	rm -rf ros2_ws/build ros2_ws/install ros2_ws/log build .pytest_cache .ruff_cache .hypothesis
