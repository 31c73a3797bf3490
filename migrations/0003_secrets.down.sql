-- Takes away the secrets of 0003: what was signed with them is worth nothing from then on.
drop table quarterdeck.secret;
