"""Automatic fan-out: sub-calls that code will make in any case are sent together.

Read `runtime.py` first, which the code calls, then `rewrite.py`, which has it call there. What they use is one small
interpreter of Python, `Rehearsal`, in a chain of classes, each a file that knows those before it:

    Machine      where it stands: variables, doubt, what has been asked
    Methods      attributes and methods of values
    Calling      functions, the code's own and others
    Operations   operators, and what a loop draws
    Expressions  whatever stands where a value is wanted
    Ways         conditions and errors that hang on an answer
    Rehearsal    statements

Beside it: `unknown.py` values of which only the type is known, `shadow.py` copies of what the code has, `natives.py`
what may be called as it is, `source.py` the syntax of the code's functions, `budget.py` what rehearsing may cost.

What all of it hangs on:

- `found` are calls that the code makes with these very prompts whatever it is answered. So nothing is added to it
  while `doubt` is more than 0: then what is gone through may not be happening. After a call that is in doubt or whose
  prompt is not known, an answer that lies ready is not used either, since that call may take it.
- What hangs on an answer is gone through both ways, each in doubt. Ways that end alike are joined: a variable that
  they leave different is an `Unknown` of their common type, or `MAYBE`. A way out that may have been taken
  (`returned`, `continued`, `failing`) leaves its variables there and one more `doubt` behind, until it is joined.
- `vague` are containers that such ways have changed: of these no more than the type is known, whoever holds them.
- `Ended` flies through everything, and nothing is put right behind it: frames stay pushed, doubt stays as it is. What
  had been found by then is certain all the same, and `clear` lets go of the rest.
"""
