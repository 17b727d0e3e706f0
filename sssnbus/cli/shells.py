"""The scripts that complete words, for each shell.

All three walk over the words before the cursor in the same way: options before the command, the command,
the word behind it if it has such, and then options with and without values, and operands. Names of queues
and channels need no quoting: they have letters, digits, and ``_ . - @`` only.
"""

from collections.abc import Iterable
from typing import Final

from sssnbus.cli.completion import GLOBAL_FLAGS, GLOBAL_VALUES, NAMES, Spec, flattened

_HEAD: Final = "# Made by 'sssnbus completion {shell}'. Make it anew after an upgrade."


def bash(specs: dict[str, Spec]) -> str:
    """Return the script for bash."""
    return _filled(_BASH, "bash", specs, _shell_cases(specs))


def zsh(specs: dict[str, Spec]) -> str:
    """Return the script for zsh."""
    return _filled(_ZSH, "zsh", specs, _shell_cases(specs))


def _filled(script: str, shell: str, specs: dict[str, Spec], cases: str) -> str:
    parts = {
        "HEAD": _HEAD.format(shell=shell),
        "FIRST": " ".join([*specs, *GLOBAL_VALUES, *GLOBAL_FLAGS]),
        "PLACES": "|".join(GLOBAL_VALUES),
        "CASES": cases,
    }
    for name, text in parts.items():
        script = script.replace(f"@{name}@", text)
    return script.strip()


def _shell_cases(specs: dict[str, Spec]) -> str:
    lines = []
    for name, spec in flattened(specs):
        options = " ".join(spec.options)
        values = " ".join(f"{option}={kind}" for option, kind in spec.values.items())
        operands = " ".join(spec.operands)
        words = " ".join(spec.words)
        lines.append(f"        '{name}') options='{options}' values='{values}'")
        lines.append(f"            operands=({operands}) behind='{words}' ;;")
    return "\n".join(lines)


_BASH: Final = r"""
@HEAD@

_sssnbus_complete() {
    case $1 in
        queues|channels|all)
            local names
            names=$("${COMP_WORDS[0]}" "${before[@]}" completion --names "$1" 2>/dev/null)
            COMPREPLY=($(compgen -W "$names" -- "$cur")) ;;
        files)
            local IFS=$'\n'
            compopt -o filenames 2>/dev/null
            COMPREPLY=($(compgen -f -- "$cur")) ;;
        nothing|'') ;;
        *) COMPREPLY=($(compgen -W "${1//,/ }" -- "$cur")) ;;
    esac
}

_sssnbus_spec() {
    options='' values='' behind='' operands=()
    case $1 in
@CASES@
    esac
}

_sssnbus() {
    local cur=${COMP_WORDS[COMP_CWORD]} word pair kind chain='' options='' values='' behind=''
    local place=1 count=0
    local -a before=() operands=()
    COMPREPLY=()
    while ((place < COMP_CWORD)); do
        word=${COMP_WORDS[place]}
        ((place += 1))
        case $word in
            @PLACES@)
                if ((place == COMP_CWORD)); then
                    [[ $word == --url ]] || _sssnbus_complete files
                    return
                fi
                before+=("$word" "${COMP_WORDS[place]}")
                ((place += 1)) ;;
            -*) ;;
            *) chain=$word; break ;;
        esac
    done
    if [[ -z $chain ]]; then
        COMPREPLY=($(compgen -W '@FIRST@' -- "$cur"))
        return
    fi
    _sssnbus_spec "$chain"
    while ((place < COMP_CWORD)); do
        word=${COMP_WORDS[place]}
        ((place += 1))
        kind=''
        for pair in $values; do
            [[ ${pair%%=*} == "$word" ]] && kind=${pair#*=}
        done
        if [[ -n $kind ]]; then
            if ((place == COMP_CWORD)); then
                _sssnbus_complete "$kind"
                return
            fi
            ((place += 1))
        elif [[ $word != -* ]]; then
            if [[ " $behind " == *" $word "* ]]; then
                chain="$chain $word" count=0
                _sssnbus_spec "$chain"
            else
                ((count += 1))
            fi
        fi
    done
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
    else
        _sssnbus_complete "${operands[count]}"
    fi
}

complete -F _sssnbus sssnbus
"""

_ZSH: Final = r"""
#compdef sssnbus
@HEAD@

_sssnbus_complete() {
    case $1 in
        (queues|channels|all)
            local names
            names=$("$words[1]" "$before[@]" completion --names "$1" 2>/dev/null)
            compadd -- ${(f)names} ;;
        (files) _files ;;
        (nothing|'') ;;
        (*) compadd -- ${(s:,:)1} ;;
    esac
}

_sssnbus_spec() {
    options='' values='' behind='' operands=()
    case $1 in
@CASES@
    esac
}

_sssnbus() {
    local cur=$words[CURRENT] word pair kind chain='' options='' values='' behind=''
    local -a before operands
    integer place=2 count=1
    while ((place < CURRENT)); do
        word=$words[place]
        ((place += 1))
        case $word in
            (@PLACES@)
                if ((place == CURRENT)); then
                    [[ $word == --url ]] || _sssnbus_complete files
                    return
                fi
                before+=("$word" "$words[place]")
                ((place += 1)) ;;
            (-*) ;;
            (*) chain=$word; break ;;
        esac
    done
    if [[ -z $chain ]]; then
        compadd -- ${=:-@FIRST@}
        return
    fi
    _sssnbus_spec "$chain"
    while ((place < CURRENT)); do
        word=$words[place]
        ((place += 1))
        kind=''
        for pair in ${=values}; do
            [[ ${pair%%=*} == "$word" ]] && kind=${pair#*=}
        done
        if [[ -n $kind ]]; then
            if ((place == CURRENT)); then
                _sssnbus_complete "$kind"
                return
            fi
            ((place += 1))
        elif [[ $word != -* ]]; then
            if [[ " $behind " == *" $word "* ]]; then
                chain="$chain $word" count=1
                _sssnbus_spec "$chain"
            else
                ((count += 1))
            fi
        fi
    done
    if [[ $cur == -* ]]; then
        compadd -- ${=options}
    else
        _sssnbus_complete "$operands[count]"
    fi
}

compdef _sssnbus sssnbus
"""


def fish(specs: dict[str, Spec]) -> str:
    """Return the script for fish."""
    lines = [_HEAD.format(shell="fish"), "", "function __sssnbus_values", "    switch $argv[1]"]
    for name, spec in flattened(specs):
        lines += [f"        case '{name}'", f"            printf '%s\\n' {' '.join(spec.values)}"]
    lines += ["    end", "end", "", "function __sssnbus_behind", "    switch $argv[1]"]
    for name, spec in flattened(specs):
        if spec.words:
            lines += [f"        case '{name}'", f"            printf '%s\\n' {' '.join(spec.words)}"]
    lines += ["    end", "end"]
    lines.append(_FISH.replace("@PLACES@", " ".join(GLOBAL_VALUES)).rstrip())
    lines.append("")
    lines += [
        f"complete -c sssnbus -n __sssnbus_first -a {name} -d {_quoted(specs[name].summary)}"
        for name in specs
    ]
    for option in (*GLOBAL_VALUES, *GLOBAL_FLAGS):
        takes = " -r" if option in GLOBAL_VALUES else ""
        lines.append(f"complete -c sssnbus -n __sssnbus_first {_switch(option)}{takes}")
    for name, spec in flattened(specs):
        lines += _fish_spec(name, spec)
    return "\n".join(lines)


def _fish_spec(name: str, spec: Spec) -> Iterable[str]:
    inside = f"complete -c sssnbus -n '__sssnbus_in \"{name}\"'"
    for option, text in spec.options.items():
        more = ""
        if option in spec.values:
            kind = spec.values[option]
            more = " -r -F" if kind == "files" else f" -x -a {_fish_kind(kind)}"
        yield f"{inside} {_switch(option)}{more} -d {_quoted(text)}"
    for count, kind in enumerate(spec.operands):
        at = f"complete -c sssnbus -n '__sssnbus_in \"{name}\" {count}'"
        if kind == "files":
            yield f"{at} -F"
        elif kind != "nothing":
            yield f"{at} -a {_fish_kind(kind)}"


def _fish_kind(kind: str) -> str:
    if kind in NAMES:
        return f"'(__sssnbus_names {kind})'"
    return _quoted("" if kind == "nothing" else kind.replace(",", " "))


def _switch(option: str) -> str:
    return f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


_FISH: Final = r"""
# Prints the command with the words behind it, how many operands follow, and the options before it.
function __sssnbus_state
    set -l words (commandline -opc)
    set -e words[1]
    set -l before
    set -l chain ''
    set -l count 0
    while set -q words[1]
        set -l word $words[1]
        set -e words[1]
        if test -z "$chain"
            if contains -- $word @PLACES@
                set -q words[1]; or break
                set -a before $word $words[1]
                set -e words[1]
            else if not string match -q -- '-*' $word
                set chain $word
            end
        else if contains -- $word (__sssnbus_values $chain)
            set -e words[1]
        else if contains -- $word (__sssnbus_behind $chain)
            set chain "$chain $word"
            set count 0
        else if not string match -q -- '-*' $word
            set count (math $count + 1)
        end
    end
    printf '%s\n' $chain $count $before
end

function __sssnbus_first
    set -l state (__sssnbus_state)
    test -z "$state[1]"
end

function __sssnbus_in
    set -l state (__sssnbus_state)
    test "$state[1]" = "$argv[1]"; or return
    set -q argv[2]; or return 0
    test "$state[2]" = "$argv[2]"
end

function __sssnbus_names
    set -l state (__sssnbus_state)
    sssnbus $state[3..-1] completion --names $argv[1] 2>/dev/null
end

complete -c sssnbus -f
"""
