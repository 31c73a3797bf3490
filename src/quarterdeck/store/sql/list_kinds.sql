-- Every known kind with its defaults: read only.
select k.name, k.defaults from quarterdeck.kind k
