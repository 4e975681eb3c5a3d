# For the scripts here that make a folder: begin_folder, fill "$made", finish_folder. To be sourced.
#
# A folder is made under another name and then renamed, so that it is whole or not there. Its file `recipe` says what it was made of:
# one of the same recipe is kept, one of another is made anew, and what is not such a folder is left alone.

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# begin_folder FOLDER RECIPE: ends the script where the folder is there already.
begin_folder() {
  folder=${1%/} recipe=$2
  if [ -f "$folder/recipe" ] && [ "$(cat "$folder/recipe")" = "$recipe" ]; then
    echo "$folder"
    exit 0
  fi
  if [ -e "$folder" ] && [ ! -f "$folder/recipe" ] && [ -n "$(ls -A "$folder")" ]; then
    echo "$folder holds something else than what $(basename "$0") makes; give an empty or a new folder" >&2
    exit 1
  fi
  mkdir -p "$(dirname "$folder")"
  made=$(mktemp -d "$folder.XXXXXX")
  trap 'rm -rf "$made"' EXIT
  chmod 755 "$made"
}

finish_folder() {
  echo "$recipe" > "$made/recipe"
  rm -rf "$folder"
  mv "$made" "$folder"
  echo "$folder"
}

# fetch NAME==VERSION SHA256: unpacks a wheel into $made/wheels.
fetch() { "$scripts/fetch-wheel" "$1" "$2" "$made/wheels"; }
