"""Installs the nodes, launch files and parameters of the ROS package reptile_agent."""

from glob import glob

from setuptools import setup

package = 'reptile_agent'
module = 'reptile_agent_ros'
nodes = ('policy_node', 'adapter_node', 'reference_node')

setup(
    # Not the package's own name: pip knows the library by that one, and a node's script, which
    # looks its distribution up by this name, would find the library instead.
    name=module,
    version='0.1.0',
    packages=[module],
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package}']),
        (f'share/{package}', ['package.xml']),
        # The folder launch is a link to the repository's.
        (f'share/{package}/launch', sorted(glob('launch/*.launch.py'))),
        *(
            (f'share/{package}/{folder}', sorted(glob(f'{folder}/*.*')))
            for folder in ('config', 'config/sros2', 'config/systemd')
        ),
        (f'share/{package}/bundle/arm', sorted(glob('bundle/arm/*'))),
    ],
    install_requires=['setuptools'],
    # Without it `colcon test` finds no pytest to run.
    extras_require={'test': ['pytest']},
    zip_safe=True,
    maintainer='reptile-agent developers',
    maintainer_email='maintainers@example.org',
    description='Runs a meta-learned policy on a robot and adapts it there',
    license='Apache-2.0',
    entry_points={'console_scripts': [f'{node} = {module}.{node}:main' for node in nodes]},
)
