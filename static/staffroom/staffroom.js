// Unfold's button for the filters is a link without an address: no key reaches it.
document.addEventListener('DOMContentLoaded', () => {
  for (const link of document.querySelectorAll('#changelist a:not([href])')) {
    if (!link.textContent.includes('Filters')) continue;
    link.setAttribute('role', 'button');
    link.tabIndex = 0;
    link.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      link.click();
    });
  }
});
