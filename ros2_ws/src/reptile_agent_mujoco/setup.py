"""Installs the node of the ROS package reptile_agent_mujoco."""

from setuptools import setup

package = 'reptile_agent_mujoco'

setup(
    # Not the package's own name: a node's script looks its distribution up by this name, and must
    # not find one that pip installed.
    name='reptile_agent_mujoco_ros',
    version='0.1.0',
    packages=[package],
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package}']),
        (f'share/{package}', ['package.xml']),
    ],
    install_requires=['setuptools'],
    # Without it `colcon test` finds no pytest to run.
    extras_require={'test': ['pytest']},
    zip_safe=True,
    maintainer='reptile-agent developers',
    maintainer_email='maintainers@example.org',
    description='A robot simulated in MuJoCo with the topics of a real one',
    license='Apache-2.0',
    entry_points={'console_scripts': [f'mujoco_robot = {package}.mujoco_robot:main']},
)
