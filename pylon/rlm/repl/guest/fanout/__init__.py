"""Automatic fan-out: the sub-calls that code is certain to make are sent together, before it makes them.

A cell

    for chunk in chunks:
        found = llm_query(f"Which names? {chunk}")
        if "NONE" not in found:
            out.append(llm_query(f"Sort these: {found}"))

is rewritten before it runs:

    for chunk in __pylon__.loop(0, chunks):
        __pylon__.ahead(1)
        found = llm_query(f"Which names? {chunk}")
        if "NONE" not in found:
            out.append(llm_query(f"Sort these: {found}"))

`loop` returns the chunks as they are. But first it interprets the whole loop on copies of the cell's values, where an
answer is an `Unknown` text. An answer decides the condition, so the second calls are in doubt; the first call of each
chunk is certain, and all of these are sent in one request. With their answers the loop is interpreted again, which
finds the second calls. When fewer than two are found, the loop runs as it was written, and its calls find their
answers waiting. `ahead` does the same for the statements that follow it, and does nothing while answers wait.

In the field's terms a rehearsal is an interpretation that becomes abstract where an answer is involved: `Unknown` are
its abstract values, `join` is the join where paths meet, `repeated` finds the fixpoint of a loop of unknown length,
and `found` is what is asked on all paths.

Read `runtime.py` first, which the running code calls, then `rewrite.py`, which inserts those calls. Both use
`Rehearsal`, the interpreter: a chain of classes, each in a file of its own that knows only the ones before it:

    Knowledge       what is known of values and containers
    Machine         state: variables, depth, sub-calls found
    Methods         attributes and methods of values
    Calling         calls: functions of the code's own, built-in functions, thread pools
    Operations      operators, subscripts, and the items of a loop
    Comprehensions  comprehensions and generator expressions
    Expressions     every other kind of expression
    Branches        conditions and errors that an answer decides
    Generators      generator functions of the code's own
    Rehearsal       every kind of statement

Beside it: `unknown.py`, values of which only the type is known; `shadow.py`, copies of the running code's values;
`closures.py`, functions of the code's own; `followed.py`, tables of all syntax, functions and methods that are
followed; `natives.py`, the objects that these tables name; `source.py`, the syntax of the code's functions;
`facts.py`, what conditions tell; `budget.py`, what rehearsing may cost.

The rules that hold all of it together:

- `found` are calls that the code makes, with these very prompts, whatever it is answered. So nothing is added to it
  while `doubt` is more than 0: the code that is rehearsed may not be running then. After a call that is in doubt, or
  whose prompt is not known, an answer that is waiting is used only if the beginning or the end of that call's prompt
  tells that it is not for that call.
- Where an answer decides, both branches are rehearsed, each in doubt, and then joined: a variable that they leave
  with different values becomes an `Unknown` of their common type, or `MAYBE`. An early exit that may have been taken
  (`returned`, `continued`, `failing`) keeps its variables and one more `doubt` until it is joined too.
- `vague` are containers that were changed in doubt: only their type is known from then on, by whatever name.
- What stands for a value of the code's is `Opaque`: every operation on it that is not allowed here raises `Ended`.
- `Ended` passes through everything, and nothing is tidied up behind it: frames stay, doubt stays. What had been found
  by then is certain all the same, and `clear` releases the rest.
"""
