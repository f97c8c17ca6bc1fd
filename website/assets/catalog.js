// The filters of the catalogue's index. Without this script all systems are shown.
document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("fw-filters");
  if (!form) return;
  const order = ["built", "equal", "trained", "measured"];
  const lists = [...document.querySelectorAll(".fw-list")];
  const rows = [...document.querySelectorAll(".fw-list > li")];
  const texts = new Map(rows.map((row) => [row, (row.textContent + " " + row.dataset.words).toLowerCase()]));

  const reached = (rung, wanted) =>
    order.includes(wanted) ? order.indexOf(rung) >= order.indexOf(wanted) : rung === wanted;

  function narrow() {
    const { words, task, mechanism, rung } = form.elements;
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits =
        wanted.every((word) => texts.get(row).includes(word)) &&
        (!task.value || row.dataset.task.split(" ").some((name) => name === task.value || name === "any")) &&
        (!mechanism.value || row.dataset.mechanism.split(" ").includes(mechanism.value)) &&
        (!rung.value || reached(row.dataset.rung, rung.value));
      row.hidden = !fits;
      shown += fits;
    }
    for (const list of lists) {
      const empty = ![...list.children].some((row) => !row.hidden);
      list.hidden = list.previousElementSibling.hidden = empty;
    }
    document.getElementById("fw-count").value =
      shown ? `${shown} of ${rows.length} systems` : "No system fits; take a filter away or use fewer words.";
  }

  function remember() {
    const chosen = [...new FormData(form)].filter(([, value]) => value);
    history.replaceState(null, "", "#" + new URLSearchParams(chosen));
  }

  function recall() {
    const chosen = new URLSearchParams(location.hash.slice(1));
    for (const field of form.elements) if (field.name) field.value = chosen.get(field.name) ?? "";
    narrow();
  }

  form.addEventListener("input", () => { narrow(); remember(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { narrow(); remember(); }));
  addEventListener("hashchange", () => { if (location.hash.includes("=")) recall(); });
  form.hidden = false;
  recall();
});
