"""What a run found out: one stream of reports (model), several views of it.

A further format is one further module here that takes a :class:`vm.results.model.Run`.
"""
