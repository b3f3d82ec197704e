"""Lets the tests here and one folder below find ``update_toys``: pytest adds the folder of a conftest to the path."""
